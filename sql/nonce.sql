SELECT '{nonce}'
