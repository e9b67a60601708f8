"""Files on disk: written completely or not at all, checksummed, locked, safely named."""
