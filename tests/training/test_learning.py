"""Every score in every wiring learns to reverse strings of digits, and is tested on strings that it never saw."""

import secrets

import pytest
import torch
from helpers.models import SCORES, WIRINGS, make_model

from heed.ops.cross_entropy import cross_entropy
from heed.search.beam import beam_search
from heed.search.settings import SearchSettings
from heed.text.base import BOS, EOS, PAD

FIRST, V = 4, 14  # ten digits after the four special ids
STEPS, BATCH = 1500, 64


def strings(num: int, held_out_pairs: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sources, their lengths, targets: 3 to 10 digits and EOS, padded. Held out: digits that add up to 7 n."""
    positions = torch.arange(11)
    draws = 20 * num if held_out_pairs else 2 * num
    lengths, digits = torch.randint(3, 11, (draws, 1)), torch.randint(10, (draws, 11))
    inside = positions < lengths
    chosen = ((digits * inside).sum(1) % 7 == 0) == held_out_pairs
    lengths, digits, inside = (x[chosen][:num] for x in (lengths, digits + FIRST, inside))
    backwards = digits.gather(1, (lengths - 1 - positions).clamp(min=0))
    end = torch.where(positions == lengths, EOS, PAD)
    return torch.where(inside, digits, end), lengths[:, 0] + 1, torch.where(inside, backwards, end)


def test_the_task():
    for held_out_pairs in (False, True):
        src, lengths, tgt = strings(53, held_out_pairs)
        assert len(src) == 53
        for source, length, target in zip(src.tolist(), lengths.tolist(), tgt.tolist(), strict=True):
            digits = source[: length - 1]
            assert 3 <= len(digits) <= 10 and all(FIRST <= digit < V for digit in digits)
            assert source[length - 1 :] == [EOS] + [PAD] * (11 - length)
            assert target == [*digits[::-1], EOS] + [PAD] * (11 - length)
            assert (sum(digit - FIRST for digit in digits) % 7 == 0) == held_out_pairs


@pytest.mark.slow
@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("score", SCORES)
def test_learns_to_reverse(score, wiring):
    seed = secrets.randbelow(2**31)
    torch.manual_seed(seed)
    sizes = {"embedding_dim": 32, "encoder_dim": 32, "encoder_layers": 1, "decoder_dim": 64}
    model = make_model(score, wiring, (V, V), seed, **sizes).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, STEPS)
    for _ in range(STEPS):
        src, lengths, tgt = strings(BATCH, held_out_pairs=False)
        real = tgt != PAD
        tgt_in = torch.cat([torch.full((BATCH, 1), BOS), tgt[:, :-1]], 1)
        loss, _ = cross_entropy(model(src, lengths, tgt_in)[0][real], tgt[real], model.output, 0.0)
        optimizer.zero_grad()
        (loss / real.sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    src, lengths, tgt = strings(1000, held_out_pairs=True)
    found = beam_search([model.eval()], src, lengths, SearchSettings(width=1))
    exact = sum(best[0].ids == row[:length].tolist() for best, row, length in zip(found, tgt, lengths, strict=True))
    print(f"{exact / 10:.1f} %, loss {loss / real.sum():.5f}")
    assert exact >= 990, f"{score} in {wiring}: {exact / 10:.1f} % exact with seed {seed}"
