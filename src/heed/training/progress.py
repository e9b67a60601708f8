"""The progress bar of training, and the clock that measures its speed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import nan

from tqdm import tqdm


class Progress:
    """A bar over the steps, and target tokens per second since the last log. Validation does not count."""

    def __init__(self, total: int, step: int) -> None:
        self.bar = tqdm(total=total, initial=step, unit="step", disable=None, dynamic_ncols=True)
        self.since = time.perf_counter()
        self.tokens = 0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def advance(self, tokens: int) -> None:
        """Count a step with so many target tokens."""
        self.tokens += tokens
        self.bar.update()

    def tokens_per_second(self) -> float:
        """Return the speed since the last call."""
        now = time.perf_counter()
        speed = self.tokens / (now - self.since)
        self.since, self.tokens = now, 0
        return speed

    def show(self, metrics: dict[str, float]) -> None:
        """Show loss, perplexity and speed behind the bar."""
        self.bar.set_postfix_str(
            f"loss {metrics.get('train/loss', nan):.3f}, ppl {metrics.get('train/perplexity', nan):.2f}, "
            f"{metrics['train/tokens_per_second']:,.0f} tokens/s"
        )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock inside the block."""
        start = time.perf_counter()
        yield
        self.since += time.perf_counter() - start

    def hide(self) -> None:
        """Draw no more: the terminal may have been closed."""
        self.bar.disable = True

    def write(self, line: str) -> None:
        """Print a line above the bar."""
        self.bar.write(line)
