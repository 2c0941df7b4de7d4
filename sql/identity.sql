SELECT {identity}
