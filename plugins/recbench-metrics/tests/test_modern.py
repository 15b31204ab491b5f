"""Precision and recall against a loop over pairs, transformers against layers of torch, CMMD against its formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from torch import Tensor, nn
from torch.nn import functional

import recbench_metrics as plugin
from recbench import ImageShape, MetricEntry
from recbench.contracts.checked_scores import check_score
from recbench.contracts.metric import Reference, SetMetric
from recbench.errors import UserError
from recbench.testing import MetricCase, metric_cases
from recbench_metrics import clip, dinov2
from recbench_metrics.distances import gaussian_mmd
from recbench_metrics.manifold import precision_and_recall
from recbench_metrics.modern import CLIP, DINOV2
from tests.stand_in_weights import stand_in, use_stand_ins

METRICS: dict[str, MetricEntry] = {entry.name: entry for entry in plugin.recbench_metrics()}
NEW = ("cmmd", "fd_dinov2", "fd_enet_train", "precision_recall")
SHAPE = ImageShape(3, 16, 16)


def normal(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


# Precision and recall


def by_hand(real: NDArray[np.float64], judged: NDArray[np.float64], neighbours: int) -> tuple[float, float]:
    """Equations 1 and 2 of the paper, pair by pair."""

    def radius(points: NDArray[np.float64], i: int) -> float:
        others = [math.dist(points[i], points[j]) for j in range(len(points)) if j != i]
        return sorted(others)[neighbours - 1]

    def share(points: NDArray[np.float64], centres: NDArray[np.float64]) -> float:
        radii = [radius(centres, i) for i in range(len(centres))]
        hits = [any(math.dist(p, c) <= r for c, r in zip(centres, radii, strict=True)) for p in points]
        return sum(hits) / len(hits)

    return share(judged, real), share(real, judged)


@pytest.mark.parametrize("neighbours", [1, 3, 5])
@pytest.mark.parametrize(("shift", "spread", "dimensions"), [(0.0, 1.0, 2), (0.7, 0.5, 3), (0.3, 1.5, 20)])
def test_precision_and_recall_are_those_of_a_loop(
    neighbours: int, shift: float, spread: float, dimensions: int
) -> None:
    real, judged = normal(31, dimensions), shift + spread * normal(23, dimensions, seed=1)
    expected = by_hand(real.double().numpy(), judged.double().numpy(), neighbours)
    assert precision_and_recall(real, judged, neighbours) == pytest.approx(expected, abs=1e-12)


def test_the_paper_s_cases() -> None:
    """What figure 1 of the paper draws: judged images that leave something out, or add something, or both."""
    one, other, third = normal(60, 2), normal(60, 2, seed=1) + 50, normal(60, 2, seed=2) - 50
    both = torch.cat([one, other])
    assert precision_and_recall(both, both + 0, 3) == (1, 1)  # equal sets
    assert precision_and_recall(both, both + 1000, 3) == (0, 0)  # nothing in common
    precision, recall = precision_and_recall(both, one + 0, 3)  # a mode is dropped
    assert (precision, recall) == (1, 0.5)
    precision, recall = precision_and_recall(one, torch.cat([one, third]), 3)  # a mode is invented
    assert (precision, recall) == (0.5, 1)
    collapsed = one[:1].expand(60, 2)  # all samples alike: they are among the data, and cover nothing else
    precision, recall = precision_and_recall(one, collapsed, 3)
    assert (precision, recall) == (1, 1 / 60)


def test_twins_and_a_far_mean_do_not_confuse_it() -> None:
    """A ball of radius 0 holds its own centre, whatever rounding does far from the origin."""
    twins = (normal(8, 64) * 1e-3 + 1e3).repeat_interleave(5, dim=0)
    assert precision_and_recall(twins, twins[:20], 3) == (1, 0.5)


# Transformers


def attention(tokens: Tensor, qkv: tuple[Tensor, Tensor], out: tuple[Tensor, Tensor], heads: int) -> Tensor:
    """Self-attention as torch has it."""
    layer = nn.MultiheadAttention(tokens.shape[-1], heads, batch_first=True)
    state = dict(zip(("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"), (*qkv, *out), strict=True))
    layer.load_state_dict(state)
    return layer(tokens, tokens, tokens, need_weights=False)[0]  # type: ignore[no-any-return]


def theirs_dinov2(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """The class token of DINOv2, without anything of ours; positions are already those of the images."""

    def norm(tokens: Tensor, name: str) -> Tensor:
        return functional.layer_norm(tokens, tokens.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def pair(name: str) -> tuple[Tensor, Tensor]:
        return state[f"{name}.weight"], state[f"{name}.bias"]

    width = state["cls_token"].shape[-1]
    patches = functional.unfold(images, 14, stride=14).transpose(1, 2)
    tokens = functional.linear(patches, state["patch_embed.proj.weight"].flatten(1), state["patch_embed.proj.bias"])
    tokens = torch.cat([state["cls_token"].expand(len(images), -1, -1), tokens], dim=1) + state["pos_embed"]
    for block in ("blocks.0", "blocks.1"):
        seen = attention(
            norm(tokens, f"{block}.norm1"), pair(f"{block}.attn.qkv"), pair(f"{block}.attn.proj"), width // 64
        )
        tokens = tokens + state[f"{block}.ls1.gamma"] * seen
        inner = functional.gelu(functional.linear(norm(tokens, f"{block}.norm2"), *pair(f"{block}.mlp.fc1")))
        tokens = tokens + state[f"{block}.ls2.gamma"] * functional.linear(inner, *pair(f"{block}.mlp.fc2"))
    return norm(tokens, "norm")[:, 0]


def theirs_clip(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """The embedding of CLIP, without anything of ours."""

    def pair(name: str) -> tuple[Tensor, Tensor]:
        return state[f"vision_model.{name}.weight"], state[f"vision_model.{name}.bias"]

    def norm(tokens: Tensor, name: str) -> Tensor:
        return functional.layer_norm(tokens, tokens.shape[-1:], *pair(name))

    at = "vision_model.embeddings"
    patches = (
        functional.unfold(images, 14, stride=14).transpose(1, 2) @ state[f"{at}.patch_embedding.weight"].flatten(1).T
    )
    first = state[f"{at}.class_embedding"].expand(len(images), 1, -1)
    tokens = norm(torch.cat([first, patches], 1) + state[f"{at}.position_embedding.weight"], "pre_layrnorm")
    for layer in ("encoder.layers.0", "encoder.layers.1"):
        three = [pair(f"{layer}.self_attn.{part}_proj") for part in "qkv"]
        joined = torch.cat([weight for weight, _ in three]), torch.cat([bias for _, bias in three])
        tokens = tokens + attention(
            norm(tokens, f"{layer}.layer_norm1"), joined, pair(f"{layer}.self_attn.out_proj"), 2
        )
        inner = functional.linear(norm(tokens, f"{layer}.layer_norm2"), *pair(f"{layer}.mlp.fc1"))
        tokens = tokens + functional.linear(inner / (1 + torch.exp(-1.702 * inner)), *pair(f"{layer}.mlp.fc2"))
    embedding = norm(tokens[:, 0], "post_layernorm") @ state["visual_projection.weight"].T
    return embedding / embedding.norm(dim=1, keepdim=True)


def wider(
    state: dict[str, Tensor], width: int, first: str, second: str, positions: tuple[str, int]
) -> dict[str, Tensor]:
    """Random tensors like those of a stand-in of 64 dimensions, for more of them and for two blocks."""
    generator = torch.Generator().manual_seed(4)
    found = {}
    for name, tensor in state.items():
        if name.endswith("position_ids"):
            continue
        shape = [round(size * width / 64) if size in (64, 192, 256) else size for size in tensor.shape]
        if name == positions[0]:
            shape[-2] = positions[1]
        for copy in (name, name.replace(first, second)):
            found.setdefault(copy, torch.randn(shape, generator=generator) * 0.1)
    return found


@pytest.mark.parametrize(
    ("weights", "blocks", "positions", "ours", "theirs", "side"),
    [
        (DINOV2["large"].weights, ("blocks.0", "blocks.1"), ("pos_embed", 257), dinov2.DINOv2, theirs_dinov2, 224),
        (CLIP.weights, ("layers.0", "layers.1"), ("", 0), clip.CLIP, theirs_clip, 336),
    ],
    ids=["dinov2", "clip"],
)
@torch.no_grad()
def test_transformers_are_those_of_torch_s_layers(
    weights: object, blocks: tuple[str, str], positions: tuple[str, int], ours: Callable[..., nn.Module],
    theirs: Callable[..., Tensor], side: int,
) -> None:  # fmt: skip
    state = wider(stand_in(weights), 128, *blocks, positions)  # type: ignore[arg-type]
    images = normal(2, 3, side, side)
    assert (ours(state)(images) - theirs(state, images)).abs().max() < 2e-5


def test_positions_are_resized_as_the_authors_do() -> None:
    """Values of ``interpolate_pos_encoding`` in the authors' repository, for 3 patches a side made 2."""
    positions = torch.arange(10.0)[:, None] ** 2
    theirs = [0.0, 3.555737, 11.126055, 40.798061, 62.924671]
    assert dinov2.resized_positions(positions, 2).flatten().tolist() == pytest.approx(theirs, abs=1e-4)
    assert dinov2.resized_positions(positions, 3) is positions


@pytest.mark.parametrize("side", [16, 300])
def test_images_are_resized_as_pillow_does(side: int) -> None:
    photo = np.ascontiguousarray(data.astronaut()[40 : 40 + side, 100 : 100 + side])
    images = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
    small = np.asarray(Image.fromarray(photo).resize((224, 224), Image.Resampling.BICUBIC), dtype=np.float64)
    deviation = np.array([0.229, 0.224, 0.225])
    expected = (small / 255 - np.array([0.485, 0.456, 0.406])) / deviation
    off = np.abs(dinov2.preprocess(images)[0].permute(1, 2, 0).numpy() - expected) * deviation * 255
    assert off.max() < 1.01  # where Pillow's integers round to the other side
    assert off.mean() < 5e-3
    bands = [
        Image.fromarray(band).resize((336, 336), Image.Resampling.BICUBIC)
        for band in photo.astype(np.float32).transpose(2, 0, 1)
    ]
    unrounded = np.stack([np.asarray(band) for band in bands]) / 255
    deviations = np.array(clip._DEVIATION)[:, None, None]
    found = clip.preprocess(images)[0].numpy() * deviations + np.array(clip._MEAN)[:, None, None]
    assert np.abs(found - unrounded).max() < 1e-5


@pytest.mark.parametrize("network", [DINOV2["large"], CLIP], ids=lambda network: network.name)
def test_weights_of_another_network_are_refused(network: object) -> None:
    state = stand_in(network.weights)  # type: ignore[attr-defined]
    name = next(name for name in state if "norm1" in name)
    with pytest.raises(ValueError, match="lack"):
        network.build({key: value for key, value in state.items() if key != name})  # type: ignore[attr-defined]
    further = {"norm.odd": torch.zeros(1), "vision_model.odd": torch.zeros(1)}
    with pytest.raises(ValueError, match="odd"):
        network.build({**state, **further})  # type: ignore[attr-defined]


# CMMD


def test_cmmd_is_the_mean_over_all_pairs() -> None:
    x, y = normal(13, 4).double() * 8, normal(9, 4, seed=1).double() * 6 + 3

    def mean(first: Tensor, second: Tensor) -> float:
        return float(
            np.mean([math.exp(-(math.dist(a, b) ** 2) / 200) for a in first.tolist() for b in second.tolist()])
        )

    assert gaussian_mmd(x, y, 10.0) == pytest.approx(mean(x, x) + mean(y, y) - 2 * mean(x, y), abs=1e-12)
    assert gaussian_mmd(x, x, 10.0) == pytest.approx(0, abs=1e-12)


# The metrics


def scores(name: str, decoded: Tensor, beside: Reference, **params: object) -> tuple[dict[str, float], str]:
    entry = METRICS[name]
    case = MetricCase(entry, params, SHAPE, lambda _: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recbench.testing.case.lacking", lambda *_: None)
        metric = case.create()
    assert isinstance(metric, SetMetric)
    metric.prepare(beside)
    for batch in decoded.split(5):
        metric.update(batch, batch)
    return check_score(name, metric.compute(), entry.score_names), metric.warning


@pytest.fixture
def reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reference:
    """Twelve test images and twenty darker ones of training, and random weights."""
    use_stand_ins(monkeypatch)
    images = torch.randint(0, 256, (32, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    return Reference(images[:12], "of a test", tmp_path, torch.device("cpu"), "test", images[12:] // 8)


@pytest.mark.parametrize("name", ["cmmd_recon", "fd_dinov2_recon", "precision_recall_recon"])
def test_perfect_reconstructions_have_the_best_scores(name: str, reference: Reference) -> None:
    params = {"size": "small"} if name == "fd_dinov2_recon" else {}
    found, _ = scores(name, reference.images.float() / 255, reference, **params)
    best = 1.0 if "recall" in name else 0.0
    assert found == {key: pytest.approx(best, abs=1e-4) for key in METRICS[name].score_names}


@pytest.mark.parametrize("name", ["cmmd_gen", "fd_dinov2_gen", "fd_enet_train_gen", "precision_recall_gen"])
def test_with_training_images_these_are_what_is_compared(name: str, reference: Reference) -> None:
    """The training images themselves have the best scores, which they do not have beside the test images."""
    assert reference.train is not None
    images = reference.train.float() / 255
    params = {} if "train" in name else {"reference": "train"}
    found, _ = scores(name, images, reference, **params)
    best = 1.0 if "recall" in name else 0.0
    assert list(found.values()) == pytest.approx([best] * len(found), abs=1e-3)
    other, _ = scores(name.replace("_train", ""), images, reference)
    assert all(abs(value - best) > 1e-4 for value in other.values())
    given = Reference(reference.images, "of a test", reference.cache, reference.device)
    with pytest.raises(UserError, match="training images, and there are none"):
        scores(name, images, given, **params)


def test_precision_and_recall_need_more_images_than_neighbours(reference: Reference) -> None:
    with pytest.raises(UserError, match="more images than the 3 neighbours of each, got 3"):
        scores("precision_recall_gen", reference.images.float() / 255, reference, images=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    metric_cases(
        [entry for name, entry in METRICS.items() if name.removesuffix("_recon") in NEW],
        {"precision_recall_recon": [{"network": "dinov2"}], "fd_dinov2_recon": [{"size": "small"}]},
    ),
    ids=str,
)
def test_conformance_with_random_weights(case: MetricCase, monkeypatch: pytest.MonkeyPatch) -> None:
    use_stand_ins(monkeypatch)
    monkeypatch.setattr("recbench.testing.case.lacking", lambda *_: None)
    case.run()


def test_only_the_weights_of_the_chosen_network_are_needed() -> None:
    entry = METRICS["precision_recall_gen"]
    for network, file in (("efficientnet", "efficientnet-lite0"), ("dinov2", "dinov2_vitl14")):
        (weights,) = entry.needed_weights(SHAPE, entry.complete({"network": network}))
        assert weights.file.startswith(file)
    entry = METRICS["fd_dinov2_gen"]
    (weights,) = entry.needed_weights(SHAPE, entry.complete({}))
    assert weights.file == "dinov2_vitl14_pretrain.pth"
