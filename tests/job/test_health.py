"""Health checks on planted sick models, each of which raises its own check alone, and on a healthy one."""

from __future__ import annotations

import numpy as np
import pytest

from recbench.job.health import colour, kernel_offset, kernel_pixels, stride_energy, symptoms

HISTORY = [{"epoch": n, "objective": 100 * 0.4**n, "kl": 80.0 + n} for n in range(1, 9)]
KL = np.full(32, 88.0)


def smooth(count=32, size=32, seed=0):
    """Coloured, smooth images with a little noise, uint8 (count, 3, size, size)."""
    generator = np.random.default_rng(seed)
    y, x = np.indices((size, size)) / size
    waves = [
        np.sin(2 * np.pi * (a * x + b * y + c)) for a, b, c in generator.uniform(-1.5, 1.5, (count * 3, 3))
    ]  # at most one and a half periods a side
    images = 128 + 50 * np.reshape(waves, (count, 3, size, size)) + generator.normal(0, 2, (count, 3, size, size))
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)


def blurred(images):
    return np.rint((images + np.roll(images.astype(float), 1, -1)) / 2).astype(np.uint8)


def gaussian(size=7, variance=2.0, shift=0):
    y, x = np.indices((size, size)) - size // 2
    return np.exp(-((y - shift) ** 2 + x**2) / (2 * variance))


def over_epochs(kernel, epochs=8, batch=4):
    return {"kernels": np.broadcast_to(kernel, (epochs, batch, *kernel.shape))}


def checked(history=HISTORY, kl=KL, decoded=None, traces=None, target=None):
    target = smooth() if target is None else target
    found = symptoms(history, kl, target, blurred(target) if decoded is None else decoded, traces or {})
    return {each.check: each.value for each in found}


def test_a_healthy_job_raises_nothing():
    assert checked(traces=over_epochs(gaussian())) == {}
    assert checked(traces=over_epochs(gaussian() - 0.05)) == {}, "a kernel that is not normalized"


def test_a_job_without_epochs_is_judged_by_its_images():
    assert checked(history=[]) == {}


@pytest.mark.parametrize(
    ("place", "expected"),
    [((3, 3), {"kernel_entropy": 1.0}), ((0, 6), {"kernel_entropy": 1.0, "kernel_centre": np.hypot(3, 3)})],
)
def test_a_kernel_of_one_pixel_has_collapsed(place, expected):
    kernel = np.zeros((7, 7))
    kernel[place] = 1.0
    assert checked(traces=over_epochs(kernel)) == pytest.approx(expected)


def test_a_broad_kernel_beside_the_middle_shifts():
    assert list(checked(traces=over_epochs(gaussian(11, 2.0, shift=3)))) == ["kernel_centre"]


def test_only_the_last_epoch_of_kernels_counts():
    kernels = np.stack([np.zeros((4, 7, 7)), *([np.broadcast_to(gaussian(), (4, 7, 7))] * 3)])
    kernels[0, :, 0, 0] = 1
    assert checked(traces={"kernels": kernels}) == {}


def test_kernels_of_one_pixel_by_construction_and_other_traces_are_left_alone():
    assert checked(traces=over_epochs(np.ones((1, 1)))) == {}
    assert checked(traces={"kernels": np.full((8, 4, 7, 7), np.nan)}) == {}
    assert checked(traces={"kernels": np.zeros((8, 4))}) == {}


def with_kl(values):
    return [{**epoch, "kl": value} for epoch, value in zip(HISTORY, values, strict=True)]


def test_kl_that_jumps():
    """As measured in the quickstart of 0.1.0, after the warm-up of wiener: 222 to 1758 nats."""
    assert checked(history=with_kl([220, 222, 1758, 1700, 1650, 1650, 1650, 1650])) == {
        "kl_jump": pytest.approx(1758 / 222)
    }


def test_kl_that_rises_as_training_begins_or_falls_is_no_jump():
    assert checked(history=with_kl([0.2, 4, 41, 80, 85, 86, 87, 88])) == {}
    assert checked(history=with_kl([1500, 300, 60, 60, 60, 60, 60, 60])) == {}


def test_a_collapsed_posterior_and_a_plain_autoencoder():
    """watson_dft with a KL weight of 5 ended at 2 nats; a plain autoencoder has no posterior."""
    assert checked(kl=np.full(32, 2.0)) == {"posterior_collapse": 2.0}
    assert checked(kl=np.zeros(32)) == {}


def test_grey_reconstructions_of_coloured_data():
    grey = smooth().mean(1, keepdims=True).repeat(3, 1).astype(np.uint8)
    assert checked(decoded=grey) == {"grey": pytest.approx(0, abs=0.01)}
    assert checked(target=grey, decoded=blurred(grey)) == {}, "the data are grey"
    assert checked(target=grey[:, :1], decoded=blurred(grey[:, :1])) == {}, "the data have one channel"


@pytest.mark.parametrize("period", [2, 4])
def test_checkerboards(period):
    rows, columns = np.indices((32, 32)) // (period // 2)
    pattern = np.where((rows + columns) % 2, 4.0, -4.0)
    decoded = np.clip(blurred(smooth()) + pattern, 0, 255).astype(np.uint8)
    assert list(checked(decoded=decoded)) == ["checkerboard"]


def test_a_pattern_that_the_data_have_is_no_checkerboard():
    pattern = np.where(np.indices((32, 32)).sum(0) % 2, 4.0, -4.0)
    with_pattern = np.clip(smooth() + pattern, 0, 255).astype(np.uint8)
    assert checked(target=with_pattern, decoded=with_pattern) == {}


def test_flat_and_odd_images_have_no_checkerboard():
    flat = np.full((4, 3, 15, 15), 100, np.uint8)
    assert checked(target=flat, decoded=flat) == {}


def with_objective(values):
    return [{**epoch, "objective": float(value)} for epoch, value in zip(HISTORY, values, strict=False)]


def test_an_objective_that_still_falls():
    assert checked(history=with_objective([100, 80, 70, 60])) == {"undertrained": pytest.approx(0.25)}
    assert checked(history=with_objective([-100, -200, -300, -400])) == {"undertrained": pytest.approx(1 / 3)}


def test_a_change_of_the_objective_is_no_fall():
    """After a warm-up the objective is another: its fall is counted from there."""
    assert checked(history=with_objective([30, 20, 90, 50, 47, 46, 45, 44])) == {}
    assert list(checked(history=with_objective([30, 20, 90, 80]))) == ["undertrained"]


def test_two_epochs_say_nothing_about_the_end():
    assert checked(history=with_objective([100, 50])) == {}
    assert checked(history=with_objective([50, 60, 70])) == {}, "it rises"


def test_the_measures():
    assert kernel_pixels(np.ones((2, 5, 5))) == pytest.approx([25, 25])
    assert kernel_offset(np.eye(1, 25).reshape(5, 5)) == pytest.approx(np.hypot(2, 2))
    assert colour(np.array([0.0, 3.0, 6.0]).reshape(1, 3, 1, 1)) == pytest.approx(2)
    rows = np.indices((8, 8))[0]
    stripes = np.where(rows % 4 < 2, 3.0, -3.0)
    assert stride_energy(stripes[None, None], 4) == pytest.approx(9)
    assert stride_energy(stripes[None, None], 2) == pytest.approx(0)
