"""heed: recurrent encoder-decoder translation with a pluggable attention score.

Signatures and shape comments name the axes by one letter:

    B  sentences in the batch        E  embedding size
    S  source positions              H  decoder state size
    T  target positions              Q  query size
    N  queries per sentence          K  key size (an encoder state)
    V  vocabulary size               A  prepared key size
    L  layers                        R  readout size (what the output layer reads)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heed.model.attention import attend

__version__ = "0.1.0"
__all__ = ["attend"]


def __getattr__(name: str) -> Any:
    """Import torch only for a name that needs it, so that `--help` is instant."""
    if name == "attend":
        from heed.model.attention import attend

        return attend
    raise AttributeError(f"module 'heed' has no attribute {name!r}")
