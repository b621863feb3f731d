"""What type checkers make of the public names: mypy and pyright read this file (`make check`), and nothing runs it.

A line with `type: ignore` must be an error for both: an ignore that nothing needs is an error itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias, assert_type

import numpy as np
from numpy.typing import NDArray

import crossent
from crossent.blocks import ArrayBlocks, Block, RowBlocks

Loss: TypeAlias = np.floating[Any]
Losses: TypeAlias = NDArray[np.floating[Any]]

x = np.zeros((4, 3), np.float32)
target = np.zeros(4, np.int64)
out = np.zeros(4)
some = np.zeros(4, np.float16)


def a_reduction_decides_what_comes_back(reduction: Literal["mean", "sum", "none"]) -> None:
    assert_type(crossent.cross_entropy(x, target), Loss)
    assert_type(crossent.cross_entropy(x, target, None, reduction="sum"), Loss)
    assert_type(crossent.cross_entropy(x, target, reduction="none"), Losses)
    assert_type(crossent.cross_entropy(x, target, reduction="none", out=out), Losses)
    assert_type(crossent.cross_entropy_and_grad(x, target), tuple[Loss, NDArray[Any]])
    assert_type(crossent.cross_entropy_and_grad(x, target, reduction="none"), tuple[Losses, NDArray[Any]])
    assert_type(crossent.nll_loss(x, target, reduction="none"), Losses)
    assert_type(crossent.focal_loss(x, target, gamma=1.0), Loss)
    assert_type(crossent.focal_loss_and_grad(x, target), tuple[Loss, NDArray[Any]])
    assert_type(crossent.poly_loss(x, target, reduction="none"), Losses)
    assert_type(crossent.poly_loss_and_grad(x, target, reduction="none"), tuple[Losses, NDArray[Any]])
    assert_type(crossent.linear_cross_entropy(x, x, target), Loss)
    assert_type(crossent.linear_cross_entropy(x, x, target, softcap=30.0, reduction="none"), Losses)
    assert_type(crossent.linear_cross_entropy_and_grad(x, x, target), tuple[Loss, crossent.LinearGradients])
    assert_type(
        crossent.linear_cross_entropy_and_grad(x, x, target, linear_bias=out, reduction="none"),
        tuple[Losses, crossent.LinearGradients],
    )
    assert_type(crossent.binary_cross_entropy(out, target), Loss)
    assert_type(crossent.binary_cross_entropy_with_logits(out, target, reduction="none"), Losses)
    assert_type(crossent.sigmoid_focal_loss(out, target), Losses)
    assert_type(crossent.sigmoid_focal_loss(out, target, reduction="sum"), Loss)
    assert_type(crossent.sigmoid_focal_loss_and_grad(out, target, gamma=1.0), tuple[Losses, NDArray[Any]])
    assert_type(crossent.kl_div(x, x, reduction="batchmean"), Loss)
    assert_type(crossent.kl_div(x, x, reduction="none"), Losses)
    assert_type(crossent.kl_div_topk(x, [[0]] * 4, out[:, None]), Loss)
    assert_type(crossent.kl_div_topk(x, [[0]] * 4, out[:, None], reduction="none", out=out), Losses)
    assert_type(crossent.kl_div_topk_and_grad(x, [[0]] * 4, out[:, None]), tuple[Loss, NDArray[Any]])
    assert_type(crossent.gaussian_nll_loss(out, target, out, reduction="sum"), Loss)
    assert_type(crossent.poisson_nll_loss(out, target, reduction="none"), Losses)
    loss: Loss | Losses = crossent.cross_entropy(x, target, reduction=reduction)
    del loss


def logits_may_be_a_product() -> None:
    logits = crossent.LinearLogits(x, x, softcap=30.0)
    assert_type(logits[1:], crossent.LinearLogits)
    assert_type(crossent.cross_entropy(logits, target), Loss)
    assert_type(crossent.score(logits, target), crossent.Scores)
    assert_type(crossent.compare(logits, logits), crossent.Comparison)
    assert_type(crossent.fit_temperature(logits, target), crossent.Temperature)
    crossent.Scorer().update(logits, target)
    blocks: RowBlocks = logits
    del blocks
    crossent.nll_loss(logits, target)
    crossent.linear_cross_entropy(x, x, target, weight=out, reduction="average")  # type: ignore[call-overload]
    crossent.linear_cross_entropy(x, x, target, out)  # type: ignore[call-overload]


def a_typo_is_an_error(text: str) -> None:
    crossent.cross_entropy(x, target, reduction="none ")  # type: ignore[call-overload]
    crossent.cross_entropy(x, target, reduction=text)  # type: ignore[call-overload]
    crossent.cross_entropy(x, target, reduction="batchmean")  # type: ignore[call-overload]
    crossent.cross_entropy(x, target, out=out)  # type: ignore[call-overload]
    crossent.nll_loss_and_grad(x, target, reduction="avg")  # type: ignore[call-overload]
    crossent.focal_loss(x, target, reduction="batchmean")  # type: ignore[call-overload]
    crossent.binary_cross_entropy(out, target, reduction="Mean")  # type: ignore[call-overload]
    crossent.kl_div_topk(x, target, out, reduction="mean")  # type: ignore[call-overload]
    crossent.sigmoid_focal_loss(out, target, reduction="mean", out=out)  # type: ignore[call-overload]
    crossent.kl_div(x, x, reduction="batch_mean")  # type: ignore[call-overload]
    crossent.CrossEntropyLoss(reduction="average")  # type: ignore[call-overload]
    crossent.BCELoss(label_smoothing=0.5)  # type: ignore[call-overload]
    crossent.score(x, target, values="log-probs")  # type: ignore[arg-type]
    crossent.Scorer(values="probabilities")  # type: ignore[arg-type]
    crossent.log_loss(target, out, eps="automatic")  # type: ignore[arg-type]


def an_object_is_typed_as_its_function(loss: crossent.CrossEntropyLoss) -> None:
    assert_type(crossent.CrossEntropyLoss()(x, target), Loss)
    assert_type(crossent.CrossEntropyLoss(label_smoothing=0.1, reduction="sum")(x, target, where=None), Loss)
    assert_type(crossent.CrossEntropyLoss([1, 2, 3], reduction="none")(x, target, out=out), Losses)
    assert_type(crossent.NLLLoss(reduction="none")(x, target), Losses)
    assert_type(crossent.FocalLoss(gamma=1.0)(x, target), Loss)
    assert_type(crossent.PolyLoss([1, 2, 3], reduction="none")(x, target, out=out), Losses)
    assert_type(crossent.BCELoss(clamp=None)(out, target), Loss)
    assert_type(crossent.BCEWithLogitsLoss(reduction="none")(out, target), Losses)
    assert_type(crossent.Softmax()(some), NDArray[np.float16])
    assert_type(crossent.LogSoftmax(0)([1.0, 2.0]), NDArray[Any])
    crossent.CrossEntropyLoss()(x, target, out=out)  # type: ignore[arg-type]
    assert_type(loss(x, target, out=out), Any)  # its reduction is not known


def rows_keep_their_dtype() -> None:
    assert_type(crossent.softmax(some), NDArray[np.float16])
    assert_type(crossent.log_softmax(some, 0), NDArray[np.float16])
    assert_type(crossent.log_sigmoid(x), NDArray[np.float32])
    assert_type(crossent.logsumexp(x), np.float32)
    assert_type(crossent.logsumexp(x, 1, keepdims=True), NDArray[np.float32])
    assert_type(crossent.logsumexp(x, (0, 1), b=[1, -1, 1], return_sign=True), tuple[Any, Any])
    assert_type(crossent.softmax(some, None), NDArray[np.float16])
    assert_type(crossent.log_softmax(x, (0, 1)), NDArray[np.float32])
    crossent.softmax(x, [0, 1])  # type: ignore[call-overload]


class Rows:
    """Logits in blocks of rows, without a base class."""

    row_shape, classes, dtype = (4,), 3, np.dtype(np.float32)

    def row_blocks(self, memory: int | None = None, start: int = 0) -> Iterator[Block]:
        del memory
        yield Block((slice(start, 4),), x[start:])


def blocks_of_rows_stand_for_arrays(rows: RowBlocks) -> None:
    assert_type(crossent.score(Rows(), target), crossent.Scores)
    assert_type(crossent.compare(rows, ArrayBlocks(x), target), crossent.Comparison)
    assert_type(crossent.fit_temperature(rows, target), crossent.Temperature)
    assert_type(crossent.fit_temperature([(Rows(), target)]), crossent.Temperature)
    crossent.Scorer().update(Rows(), target)
    crossent.Comparer().update(x, rows)
    crossent.cross_entropy(Rows(), target)  # type: ignore[call-overload]


def sums_know_themselves(text: str) -> None:
    assert_type(crossent.Scorer.from_json(text).merge(crossent.Scorer()), crossent.Scorer)
    assert_type(crossent.Comparer.from_json(text).result(), crossent.Comparison)
    crossent.Scorer().merge(crossent.Comparer())  # type: ignore[arg-type]
    assert_type(crossent.fit_temperature(x, target), crossent.Temperature)
    assert_type(crossent.fit_temperature(x, target, sample_weight=out), crossent.Temperature)
    assert_type(crossent.fit_temperature([(x, target), (x, target, out)]), crossent.Temperature)
