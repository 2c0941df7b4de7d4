"""Unique 64-bit tickets from Tickr servers, for programs that block and for asyncio."""

from ._client import AsyncClient, Client
from ._servers import Refused, TickrError, Unavailable

__all__ = ["AsyncClient", "Client", "Refused", "TickrError", "Unavailable"]
