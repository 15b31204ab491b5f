"""Suites: error messages for invalid ones, expansion of grids, and what job ids depend on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recbench.errors import SuiteError
from recbench.plan.model import Training
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.suite.suite import Suite, load_suite
from tests.conftest import TINY

PICKY = """\
from recbench import (
    ArchitectureEntry, DatasetEntry, ImageShape, LossEntry, MetricEntry, Parameter, Requirements, hookimpl
)
from recbench.errors import UserError

class Data:
    def __init__(self, *, what):
        if what == "user":
            raise UserError("download it first")
        if what == "bug":
            raise KeyError("oops")
        self.what = what

    @property
    def shape(self):
        if self.what == "shape":
            return (3, 16, 16)
        return ImageShape(3, 16, 16)

def check(shape, params):
    if params["C"] > 1:
        yield f"wants C up to 1 for {shape.height} pixels"
    if params["C"] < 0:
        raise ZeroDivisionError("in check")

@hookimpl
def recbench_datasets():
    yield DatasetEntry(name="data", factory=Data, summary="", parameters=(Parameter("what", str, "", ""),))

@hookimpl
def recbench_losses():
    common = dict(factory=Data, summary="")
    yield LossEntry(name="grey", requirements=Requirements(channels=(1,)), **common)
    yield LossEntry(name="large", requirements=Requirements(minimum_size=32), **common)
    yield LossEntry(name="picky", parameters=(Parameter("C", float, 1.0, ""),), check=check, **common)
    yield LossEntry(name="lost", factory="no_such_package.at_all:Loss", summary="")
    yield LossEntry(
        name="many",
        parameters=tuple(Parameter(n, t, d, "") for n, t, d in [
            ("whole", int, 1), ("real", float, 1.0), ("text", str, "x"), ("flag", bool, False), ("list", list[int], [1])
        ]),
        **common,
    )
"""

GOOD = """\
name: good
datasets: [blobs]
architectures: [linear]
losses:
  - {name: l2, kl_weight: 0.001}
  - l1
seeds: [0, 1]
training: {epochs: 2}
metrics: [psnr, ssim]
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    picky = tmp_path_factory.mktemp("plugins") / "picky.py"
    picky.write_text(PICKY)
    return Registry(load_plugins([TINY, picky]))


Load = Callable[..., Suite]


@pytest.fixture
def load(registry: Registry, tmp_path: Path) -> Load:
    """Load the text of a suite, with lines of the good one replaced by their keys."""

    def call(*overrides: str, text: str = GOOD, file: str = "s.yaml", maximum_jobs: int = 10_000, **keys: str) -> Suite:
        for key, line in keys.items():
            text = replaced(text, key, line)
        (tmp_path / file).write_text(text)
        return load_suite(tmp_path / file, registry, overrides, maximum_jobs=maximum_jobs)

    return call


def replaced(text: str, key: str, line: str) -> str:
    """The text with the section ``key`` replaced; appended, where it has none."""
    kept, skipping, done = [], False, False
    for old in text.splitlines():
        if not old.startswith(" "):
            skipping = old.startswith(f"{key}:")
            if skipping:
                kept.extend([line] if line else [])
                done = True
        if not skipping:
            kept.append(old)
    return "\n".join(kept if done else [*kept, line]) + "\n"


@pytest.fixture
def refuse(load: Load, tmp_path: Path) -> Callable[..., list[str]]:
    """Load, and give what was wrong, without the folder."""

    def call(*args: str, **kwargs: str) -> list[str]:
        with pytest.raises(SuiteError) as caught:
            load(*args, **kwargs)
        return [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]

    return call


def ids(suite: Suite) -> tuple[str, ...]:
    return tuple(planned.id for planned in suite.plan.jobs)


def labels(suite: Suite) -> list[str]:
    return [method.label for method in suite.plan.methods]


# A good suite


def test_a_good_suite(load):
    plan = load().plan
    assert plan.suite == "good"
    assert len(plan.jobs) == 4
    assert [(method.label, method.kl_weight) for method in plan.methods] == [("l2", 0.001), ("l1", 1.0)]
    assert plan.ranking == ("psnr", "ssim")
    assert plan.settings[0].shape == (3, 16, 16)
    assert plan.settings[0].training == Training(epochs=2)
    assert plan.settings[0].dataset.params == {"size": 16, "count": 64, "channels": 3, "salt": 0}


def test_the_name_is_that_of_the_file_where_none_is_given(load):
    assert load(file="my-suite_2.yaml", text=replaced(GOOD, "name", "")).plan.suite == "my-suite_2"


def test_loading_makes_nothing(load, tmp_path):
    load()
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]


# What is wrong, one by one

ONE_BY_ONE = [
    ({"name": "name: ../evil"}, "s.yaml:1: name: '../evil' must start with a letter or digit"),
    ({"name": "name: ''"}, "s.yaml:1: name: '' must start"),
    ({"name": "name: a/b"}, "s.yaml:1: name: 'a/b' must start"),
    ({"name": "name: ..\\x"}, "s.yaml:1: name: '..\\x' must start"),
    ({"name": "name: a b"}, "s.yaml:1: name: 'a b' must start"),
    ({"name": f"name: {'a' * 101}"}, "s.yaml:1: name: 'aaa"),
    ({"name": "name: 3"}, "s.yaml:1: name: 3 is not text"),
    ({"name": "name: 1:30"}, "s.yaml:1: name: '1:30' must start"),
    ({"description": "description: [a]"}, 's.yaml:10: description: ["a"] is not text'),
    ({"lossses": "lossses: [l1]"}, "s.yaml:10: lossses: unknown key; did you mean 'losses'?"),
    ({"x": "x: 1"}, "s.yaml:10: x: unknown key; choose from: architectures, baselines, datasets, description, e"),
    ({"datasets": ""}, "s.yaml:1: datasets: is missing"),
    ({"datasets": "datasets: []"}, "s.yaml:2: datasets: is empty: at least one item is needed"),
    ({"datasets": "datasets:"}, "s.yaml:2: datasets: null is not a list"),
    ({"datasets": "datasets: blobs"}, "s.yaml:2: datasets: 'blobs' is not a list"),
    ({"datasets": "datasets: [3]"}, "s.yaml:2: datasets[0]: 3 is not a name, or a mapping with one"),
    ({"datasets": "datasets: [{params: {size: 16}}]"}, "s.yaml:2: datasets[0].name: is missing"),
    ({"datasets": "datasets: [blob]"}, "s.yaml:2: datasets[0].name: there is no dataset 'blob'; did you mean 'blobs'?"),
    ({"datasets": "datasets: [../x]"}, "s.yaml:2: datasets[0].name: there is no dataset '../x'; choose from: arrays, "),
    (
        {"datasets": "datasets: [{name: blobs, params: {sise: 16}}]"},
        "s.yaml:2: datasets[0].params.sise: blobs has no such parameter; did you mean 'size'?",
    ),
    (
        {"datasets": "datasets: [{name: blobs, params: 3}]"},
        "s.yaml:2: datasets[0].params: 3 is not a mapping",
    ),
    ({"datasets": "datasets: [{name: blobs, params: }]"}, "s.yaml:2: datasets[0].params: null is not a mapping"),
    (
        {"datasets": "datasets: [{name: data, params: {what: user}}]"},
        "s.yaml:2: datasets[0]: download it first",
    ),
    ({"datasets": "datasets: [{name: data, params: {what: bug}}]"}, "s.yaml:2: datasets[0]: data of the plugin file "),
    (
        {"datasets": "datasets: [{name: data, params: {what: shape}}]"},
        "s.yaml:2: datasets[0]: data of the plugin file ",
    ),
    (
        {"architectures": "architectures: [liner]"},
        "s.yaml:3: architectures[0].name: there is no architecture 'liner'; did you mean 'linear'?",
    ),
    (
        {"architectures": "architectures: [{name: linear, params: {latent_size: 0}}]"},
        "s.yaml:3: architectures[0].params.latent_size: 0 is below the minimum 1",
    ),
    (
        {"architectures": "architectures: [{name: vae_bredell, params: {widths: [8, 8, 8, 8, 8]}}]"},
        "s.yaml:3: architectures[0]: vae_bredell cannot take the 3x16x16 images of blobs: it halves its input 5 times",
    ),
    ({"losses": "losses: [l3]"}, "s.yaml:4: losses[0].name: there is no loss 'l3'; choose from: barron, "),
    ({"losses": "losses: [[l1]]"}, 's.yaml:4: losses[0]: ["l1"] is not a name, or a mapping with one'),
    ({"losses": "losses: [{name: l1, lable: x}]"}, "s.yaml:4: losses[0].lable: unknown key; did you mean 'label'?"),
    ({"losses": "losses: [{name: l1, label: 3}]"}, "s.yaml:4: losses[0].label: 3 is not text"),
    ({"losses": "losses: [{name: l1, label: ../x}]"}, "s.yaml:4: losses[0].label: '../x' must start with"),
    ({"losses": "losses: [{name: l1, label: a/../x}]"}, "s.yaml:4: losses[0].label: 'a/../x' must start with"),
    ({"losses": "losses: [{name: l1, label: ''}]"}, "s.yaml:4: losses[0].label: '' must start with"),
    ({"losses": 'losses: [{name: l1, label: "a\\e[31mb"}]'}, "s.yaml:4: losses[0].label: 'a"),
    ({"losses": 'losses: [{name: l1, label: "a "}]'}, "s.yaml:4: losses[0].label: 'a ' must start with"),
    ({"losses": "losses: [l1, l1]"}, "s.yaml:4: losses[1]: the label 'l1' is also that of losses[0]; give one of them"),
    (
        {"losses": "losses:\n  - {name: l1, label: l2}\n  - l2"},
        "s.yaml:6: losses[1]: the label 'l2' is also that of losses[0]",
    ),
    (
        {"losses": "losses:\n  - l1\n  - {name: l1, label: other, kl_weight: 1}"},
        "s.yaml:6: losses[1]: is the same as losses[0], under another label",
    ),
    ({"losses": "losses: [{name: l1, kl_weight: -1}]"}, "s.yaml:4: losses[0].kl_weight: -1 is not a finite number"),
    ({"losses": "losses: [{name: l1, kl_weight: .nan}]"}, "s.yaml:4: losses[0].kl_weight: NaN is not a finite"),
    ({"losses": "losses: [{name: l1, kl_weight: .inf}]"}, "s.yaml:4: losses[0].kl_weight: Infinity is not a finite"),
    ({"losses": "losses: [{name: l1, kl_weight: true}]"}, "s.yaml:4: losses[0].kl_weight: true is not a finite"),
    ({"losses": "losses: [{name: l1, kl_weight: '1'}]"}, "s.yaml:4: losses[0].kl_weight: '1' is not a finite"),
    (
        {"losses": "losses: [{name: charbonnier, params: {epsilon: 0}}]"},
        "s.yaml:4: losses[0].params.epsilon: 0.0 is no",
    ),
    (
        {"losses": "losses:\n  - name: wiener\n    params: {normalise: none}"},
        "s.yaml:6: losses[0].params.normalise: wiener has no such parameter; did you mean 'normalize'?",
    ),
    ({"losses": "losses: [{name: many, params: {whole: true}}]"}, "s.yaml:4: losses[0].params.whole: true is not of"),
    ({"losses": "losses: [{name: many, params: {flag: 1}}]"}, "s.yaml:4: losses[0].params.flag: 1 is not of type bool"),
    ({"losses": "losses: [{name: many, params: {real: .nan}}]"}, "s.yaml:4: losses[0].params.real: NaN is not"),
    ({"losses": "losses: [{name: many, params: {real: 1e}}]"}, "s.yaml:4: losses[0].params.real: '1e' is not of type"),
    ({"losses": "losses: [{name: many, params: {text: 1}}]"}, "s.yaml:4: losses[0].params.text: 1 is not of type str"),
    (
        {"losses": "losses: [{name: many, params: {list: []}}]"},
        "s.yaml:4: losses[0].params.list: [] is not a non-empty",
    ),
    (
        {"losses": "losses: [{name: many, params: {list: {grid: [1, [2]]}}}]"},
        "s.yaml:4: losses[0].params.list.grid[0]: 1 is not a non-empty list[int]",
    ),
    (
        {"losses": "losses:\n  - name: many\n    params:\n      real: {grid: []}"},
        "s.yaml:7: losses[0].params.real.grid: the grid is empty: a list with at least one value is needed",
    ),
    (
        {"losses": "losses:\n  - name: many\n    params:\n      real: {grid: 3}"},
        "s.yaml:7: losses[0].params.real.grid: the grid is empty",
    ),
    (
        {"losses": "losses:\n  - name: many\n    params:\n      real:\n        grid:\n          - 1\n          - x"},
        "s.yaml:10: losses[0].params.real.grid[1]: 'x' is not of type float",
    ),
    (
        {"losses": "losses:\n  - name: many\n    params:\n      real:\n        grid: [1,\n          1.0]"},
        "s.yaml:9: losses[0].params.real.grid[1]: 1.0 is in the grid twice",
    ),
    (
        {"losses": "losses:\n  - name: many\n    params:\n      real: {gird: [1]}"},
        "s.yaml:7: losses[0].params.real: expected a value or a grid of values, as in {grid: [1, 2]}, got",
    ),
    (
        {"losses": "losses: [grey]"},
        "s.yaml:4: losses[0]: grey cannot take the 3x16x16 images of blobs: it takes images",
    ),
    ({"losses": "losses: [large]"}, "s.yaml:4: losses[0]: large cannot take the 3x16x16 images of blobs: it needs at"),
    (
        {"losses": "losses: [{name: picky, label: p, params: {C: 2}}]"},
        "s.yaml:4: losses[0]: p cannot take the 3x16x16 images of blobs: it wants C up to 1 for 16 pixels",
    ),
    ({"losses": "losses: [{name: picky, params: {C: -1}}]"}, "s.yaml:4: losses[0]: picky of the plugin file "),
    ({"losses": "losses: [lost]"}, "s.yaml:4: losses[0]: the module no_such_package.at_all cannot be found"),
    ({"seeds": ""}, "s.yaml:1: seeds: is missing"),
    ({"seeds": "seeds: []"}, "s.yaml:7: seeds: is empty"),
    ({"seeds": "seeds: 3"}, "s.yaml:7: seeds: 3 is not a list"),
    ({"seeds": "seeds: [0, 1, 0]"}, "s.yaml:7: seeds[2]: the seed 0 is given twice"),
    ({"seeds": "seeds: [-1]"}, "s.yaml:7: seeds[0]: -1 is not between 0 and 4294967295"),
    ({"seeds": "seeds: [4294967296]"}, "s.yaml:7: seeds[0]: 4294967296 is not between"),
    ({"seeds": "seeds: [true]"}, "s.yaml:7: seeds[0]: true is not a whole number"),
    ({"seeds": "seeds: [1.0]"}, "s.yaml:7: seeds[0]: 1.0 is not a whole number"),
    ({"seeds": "seeds: ['1']"}, "s.yaml:7: seeds[0]: '1' is not a whole number"),
    ({"seeds": "seeds: {grid: [1]}"}, 's.yaml:7: seeds: {"grid": [1]} is not a list'),
    ({"training": ""}, "s.yaml:1: training: is missing"),
    ({"training": "training:"}, "s.yaml:8: training: null is not a mapping"),
    ({"training": "training: {}"}, "s.yaml:8: training: epochs is missing"),
    ({"training": "training: {epochs: 0}"}, "s.yaml:8: training.epochs: 0 should be greater than or equal to 1"),
    ({"training": "training: {epochs: true}"}, "s.yaml:8: training.epochs: true should be a valid integer"),
    ({"training": "training: {epochs: 1.5}"}, "s.yaml:8: training.epochs: 1.5 should be a valid integer"),
    ({"training": "training: {epochs: '2'}"}, "s.yaml:8: training.epochs: '2' should be a valid integer"),
    ({"training": "training: {epochs: }"}, "s.yaml:8: training.epochs: null should be a valid integer"),
    (
        {"training": "training: {epochs: 1, lerning_rate: 1}"},
        "s.yaml:8: training.lerning_rate: unknown key; did you mean 'learning_rate'?",
    ),
    (
        {"training": "training: {epochs: 1, optimiser: lion}"},
        "s.yaml:8: training.optimiser: unknown key; did you mean 'optimizer'?",
    ),
    (
        {"training": "training: {epochs: 1, learning_rate: .nan}"},
        "s.yaml:8: training.learning_rate: NaN should be",
    ),
    (
        {"training": "training: {epochs: 1, learning_rate: .inf}"},
        "s.yaml:8: training.learning_rate: Infinity should be a finite number",
    ),
    ({"training": "training: {epochs: 1, learning_rate: 0}"}, "s.yaml:8: training.learning_rate: 0 should be greater"),
    ({"training": "training: {epochs: 1, learning_rate: true}"}, "s.yaml:8: training.learning_rate: true should be"),
    ({"training": "training: {epochs: 1, batch_size: 0}"}, "s.yaml:8: training.batch_size: 0 should be greater"),
    (
        {"training": "training: {epochs: 1, precision: fp16}"},
        "s.yaml:8: training.precision: 'fp16' should be 'float32', 'tf32', 'bf16' or 'auto'",
    ),
    ({"training": "training: {epochs: 1, compile: 1}"}, "s.yaml:8: training.compile: 1 should be a valid boolean"),
    ({"training": "training: {epochs: {grid: [1, 0]}}"}, "s.yaml:8: training.epochs.grid[1]: 0 should be greater"),
    ({"training": "training: {epochs: {grid: []}}"}, "s.yaml:8: training.epochs.grid: the grid is empty"),
    ({"training": "training: {epochs: 1, kl_weight: x}"}, "s.yaml:8: training.kl_weight: 'x' is not a finite number"),
    ({"metrics": "metrics: []"}, "s.yaml:9: metrics: is empty"),
    ({"metrics": "metrics: [psnrr]"}, "s.yaml:9: metrics[0].name: there is no metric 'psnrr'; did you mean 'psnr'?"),
    ({"metrics": "metrics: [psnr, psnr]"}, "s.yaml:9: metrics[1]: the label 'psnr' is also that of metrics[0]"),
    (
        {"metrics": "metrics: [psnr, {name: psnr, label: x}]"},
        "s.yaml:9: metrics[1]: is the same as metrics[0], under another label",
    ),
    (
        {"metrics": "metrics: [{name: psnr, kl_weight: 1}]"},
        "s.yaml:9: metrics[0].kl_weight: unknown key; choose from: label, name, params",
    ),
    (
        {"ranking": "ranking: {metrics: [ssmi]}"},
        "s.yaml:10: ranking.metrics[0]: the suite has no metric 'ssmi'; did yo",
    ),
    (
        {"ranking": "ranking: {metrics: [l1]}"},
        "s.yaml:10: ranking.metrics[0]: the suite has no metric 'l1'; choose fro",
    ),
    ({"ranking": "ranking: {metrics: [psnr, psnr]}"}, "s.yaml:10: ranking.metrics[1]: 'psnr' is given twice"),
    ({"ranking": "ranking: {metrics: []}"}, "s.yaml:10: ranking.metrics: is empty"),
    ({"ranking": "ranking: {metrcs: [psnr]}"}, "s.yaml:10: ranking.metrcs: unknown key; did you mean 'metrics'?"),
    ({"ranking": "ranking: psnr"}, "s.yaml:10: ranking: 'psnr' is not a mapping"),
]


@pytest.mark.parametrize(("keys", "problem"), ONE_BY_ONE, ids=[next(iter(k.values())) or str(k) for k, _ in ONE_BY_ONE])
def test_a_problem_is_reported_once_with_its_line_and_key(refuse, keys, problem):
    assert [found[: len(problem)] for found in refuse(**keys)] == [problem]


@pytest.mark.parametrize("text", ["", "# nothing\n", "[a]\n", "just text\n", "3\n"])
def test_a_file_without_a_mapping(refuse, text):
    (problem,) = refuse(text=text)
    assert problem.startswith("s.yaml:1: expected a suite: a mapping with datasets, ")


def test_an_empty_mapping_misses_everything(refuse):
    missing = ["architectures", "datasets", "losses", "metrics", "seeds", "training"]
    assert refuse(text="{}\n") == [f"s.yaml:1: {key}: is missing" for key in missing]


def test_a_file_name_that_cannot_name_a_suite(refuse):
    (problem,) = refuse(text=replaced(GOOD, "name", ""), file="my suite.yaml")
    assert problem.startswith("my suite.yaml:1: name: 'my suite', from the file's name, must start with")


EVERYTHING = """\
name: ../evil
descriptoin: x
datasets: [blobs, {name: blobs, label: b, params: {sise: 1}}]
architectures: [liner]
losses:
  - l3
  - {name: grey, kl_weight: 1}
  - {name: l1, parms: {}, kl_weight: -1}
  - {nme: x}
  - !!python/object/apply:os.system [exit]
  - {name: many, params: {real: {grid: []}}}
seeds: [0, x, 0, y]
seeds: [1]
training: {epochs: 0, batchsize: 3}
metrics: [psnr, nonsense]
ranking: {metrics: [psnr, psnr]}
"""


def test_all_problems_are_reported_at_once(refuse):
    """Structure, names, values, YAML and --set, and also a loss that cannot take the images."""
    problems = refuse("training.epochs.x=1", "losses.1.kl_weight=-2", text=EVERYTHING)
    where = [problem.split(": ")[:2] for problem in problems]
    assert where == [
        ["--set losses.1.kl_weight=-2", "losses[1].kl_weight"],
        ["--set training.epochs.x=1", "training.epochs.x"],
        ["s.yaml:1", "name"],
        ["s.yaml:2", "descriptoin"],
        ["s.yaml:3", "datasets[1].params.sise"],
        ["s.yaml:4", "architectures[0].name"],
        ["s.yaml:6", "losses[0].name"],
        ["s.yaml:8", "losses[2].kl_weight"],
        ["s.yaml:8", "losses[2].parms"],
        ["s.yaml:9", "losses[3].name"],
        ["s.yaml:9", "losses[3].nme"],
        ["s.yaml:10", "losses[4]"],
        ["s.yaml:11", "losses[5].params.real.grid"],
        ["s.yaml:12", "seeds[1]"],
        ["s.yaml:12", "seeds[2]"],
        ["s.yaml:12", "seeds[3]"],
        ["s.yaml:13", "seeds"],
        ["s.yaml:14", "training.batchsize"],
        ["s.yaml:14", "training.epochs"],
        ["s.yaml:15", "metrics[1].name"],
        ["s.yaml:16", "ranking.metrics[1]"],
    ]


def test_a_loss_that_cannot_take_the_images_is_reported_with_structural_problems(refuse):
    problems = refuse(losses="losses: [grey]", extra="extra: 1")
    assert [problem.split(": ")[1] for problem in problems] == ["losses[0]", "extra"]


def test_only_the_data_set_that_does_not_fit_is_named(refuse):
    datasets = "datasets: [blobs, {name: blobs, label: grey, params: {channels: 1}}]"
    (problem,) = refuse(losses="losses: [grey]", datasets=datasets)
    assert "3x16x16 images of blobs:" in problem


# Grids


def test_a_grid_spans_all_combinations(load):
    suite = load(losses="losses: [{name: many, params: {real: {grid: [0.5, 2]}, whole: {grid: [3, 1]}}}]")
    assert labels(suite) == [f"many whole={whole} real={real}" for whole in (3, 1) for real in (0.5, 2)]


def test_grids_over_everything(load):
    suite = load(
        datasets="datasets: [{name: blobs, params: {salt: {grid: [0, 1]}}}]",
        architectures="architectures: [{name: linear, label: net, params: {latent_size: {grid: [2, 4]}}}]",
        losses="losses: [{name: l1, kl_weight: {grid: [0.1, 1]}}, l2]",
        training="training: {epochs: {grid: [1, 2]}, kl_weight: {grid: [3, 4]}}",
        metrics="metrics: [psnr]",
    )
    assert labels(suite) == ["l1 kl_weight=0.1", "l1 kl_weight=1", "l2 kl_weight=3", "l2 kl_weight=4"]
    assert suite.plan.settings[-1].label == "blobs salt=1 · net latent_size=4 · epochs=2"
    assert len(suite.plan.jobs) == len(set(ids(suite))) == 2 * 2 * 2 * 4 * 2


def test_values_that_differ_late_have_labels_that_differ(load):
    suite = load(losses="losses: [{name: many, params: {real: {grid: [0.12345678, 0.12345679, 1e-7]}}}]")
    assert labels(suite) == ["many real=0.12345678", "many real=0.12345679", "many real=1e-07"]


def test_labels_of_grids_hold_no_slashes(load):
    suite = load(losses="losses: [{name: many, params: {text: {grid: [/a/b, c]}, flag: {grid: [true, false]}}}]")
    assert labels(suite)[0] == "many text=_a_b flag=true"


def test_grid_labels_clash_with_given_ones(refuse):
    losses = "losses: [{name: many, params: {whole: {grid: [1, 2]}}}, {name: l1, label: many whole=2}]"
    (problem,) = refuse(losses=losses)
    assert "the label 'many whole=2' is also that of losses[0]" in problem


def test_a_grid_that_repeats_a_single_item(refuse):
    losses = "losses: [{name: many, params: {whole: {grid: [1, 2]}}}, {name: many, label: x, params: {whole: 2}}]"
    (problem,) = refuse(losses=losses)
    assert problem.endswith("losses[1]: is the same as losses[0], under another label")


def test_a_label_that_grows_too_long(refuse):
    (problem,) = refuse(
        losses=f"losses: [{{name: many, label: {'a' * 195}, params: {{whole: {{grid: [1, 2222222]}}}}}}]"
    )
    assert "its grid makes the invalid label 'aaa" in problem


HUGE = ", ".join(map(str, range(1, 6_001)))
HUGE_SUITES = {
    "losses": f"losses: [{{name: many, params: {{whole: {{grid: [{HUGE}]}}, real: {{grid: [{HUGE}]}}}}}}]",
    "datasets": f"datasets: [{{name: blobs, params: {{salt: {{grid: [{HUGE}]}}, count: {{grid: [2, 3]}}}}}}]",
    "training": f"training: {{epochs: {{grid: [{HUGE}]}}, batch_size: {{grid: [{HUGE}]}}}}",
}


@pytest.mark.parametrize("key", HUGE_SUITES)
def test_a_huge_grid_is_counted_and_not_expanded(refuse, key, monkeypatch):
    def expanded(*_):
        raise AssertionError("the grid was expanded")

    for module in ("grid", "validation"):
        monkeypatch.setattr(f"recbench.suite.{module}.product", expanded)
    problems = refuse(**{key: HUGE_SUITES[key]})
    assert problems[0].startswith("s.yaml:1: spans ")
    assert problems[0].endswith(" jobs, more than 10,000; --max-jobs raises the limit")
    assert len(problems) == 1


def test_the_limit_is_the_number_of_jobs(load, refuse):
    assert len(load(maximum_jobs=4).plan.jobs) == 4
    assert refuse(maximum_jobs=3) == ["s.yaml:1: spans 4 jobs, more than 3; --max-jobs raises the limit"]


def test_too_many_metrics(refuse, monkeypatch):
    monkeypatch.setattr("recbench.suite.validation._MAXIMUM_METRICS", 1)
    assert refuse() == ["s.yaml:9: metrics: has 2 metrics, more than 1"]


# --set


def test_set_reaches_everything(load):
    suite = load("training.epochs=7", "losses.l1.kl_weight=3", "seeds=[5]", "name=other", "losses.0.label=first")
    assert suite.plan.settings[0].training.epochs == 7
    assert [(method.label, method.kl_weight) for method in suite.plan.methods] == [("first", 0.001), ("l1", 3.0)]
    assert [planned.seed for planned in suite.plan.jobs] == [5, 5]
    assert suite.plan.suite == "other"


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        ("training.epochs=0", "--set training.epochs=0: training.epochs: 0 should be greater than or equal to 1"),
        ("training.epochs={grid: [1, 0]}", "training.epochs.grid[1]: 0 should be greater"),
        ("losses.l1.name=l3", "--set losses.l1.name=l3: losses[1].name: there is no loss 'l3'"),
        ("losses=[l3]", "--set losses=[l3]: losses[0].name: there is no loss 'l3'"),
        ("losses=l1", "--set losses=l1: losses: 'l1' is not a list"),
        ("name=../x", "--set name=../x: name: '../x' must start"),
        ("trainin.epochs=2", "--set trainin.epochs=2: trainin: unknown key; did you mean 'training'?"),
        ("nonsense", "--set nonsense: is not of the form KEY=VALUE"),
    ],
)
def test_problems_of_set_name_set(refuse, assignment, problem):
    (found,) = refuse(assignment)
    assert problem in found
    assert found.startswith(f"--set {assignment}: ")


# The resolved suite loads again to the same jobs

RESOLVABLE = {
    "plain": {},
    "described": {"description": 'description: "with ∞, : and # and\\nlines"'},
    "labels like numbers": {"losses": "losses: [{name: l1, label: '1e5'}, {name: l2, label: '0x1'}]"},
    "text like numbers": {"losses": "losses: [{name: many, params: {text: {grid: ['1e-4', 'null', /a/b, '']}}}]"},
    "grids over losses": {
        "losses": "losses: [{name: many, params: {list: {grid: [[1], [1, 2]]}, real: {grid: [2, 1]}}}]"
    },
    "infinity": {
        "losses": "losses: [{name: many, params: {real: .inf}}, {name: many, label: m, params: {real: -.inf}}]"
    },
    "grids over data": {"datasets": "datasets: [{name: blobs, label: b, params: {salt: {grid: [3, 1]}}}, data]"},
    "grids over training": {
        "training": "training: {precision: {grid: [bf16, float32]}, epochs: {grid: [2, 1]}, kl_weight: {grid: [2, 1]}}"
    },
    "ranked": {"ranking": "ranking: {metrics: [ssim]}"},
}


@pytest.mark.parametrize("keys", RESOLVABLE.values(), ids=RESOLVABLE)
def test_the_resolved_suite_loads_to_the_same_plan(load, keys):
    suite = load(**keys)
    again = load(text=suite.resolved)
    assert again.plan.model_dump(exclude={"settings": {"__all__": {"label"}}}) == suite.plan.model_dump(
        exclude={"settings": {"__all__": {"label"}}}
    )
    assert ids(again) == ids(suite)
    assert again.resolved == suite.resolved


def test_the_resolved_suite_holds_every_default(load):
    resolved = load().resolved
    for text in ("precision: float32", "batch_size: 64", "latent_size: 4", "kl_weight: 1.0", "salt: 0", "- psnr"):
        assert text in resolved


# Job ids


def test_ids_are_hashes(load):
    assert all(len(job) == 16 and set(job) <= set("0123456789abcdef") for job in ids(load()))
    assert len(set(ids(load()))) == 4


FLAT = replaced(GOOD, "losses", "losses: [{kl_weight: 0.001, name: l2}, l1]")
SAME = {
    "the order of keys": "\n".join(reversed(FLAT.splitlines())),
    "defaults spelled out": replaced(
        replaced(GOOD, "datasets", "datasets: [{name: blobs, params: {channels: 3, size: 16}}]"),
        "training",
        "training: {learning_rate: 1.0e-4, kl_weight: 1, epochs: 2, deterministic: true, precision: float32}",
    ),
    "whole numbers for real ones": replaced(
        GOOD, "losses", "losses: [{name: l2, kl_weight: 1e-3}, {name: l1, kl_weight: 1}]"
    ),
    "the name": replaced(GOOD, "name", "name: other"),
    "the description": replaced(GOOD, "description", "description: other"),
    "labels": replaced(
        replaced(GOOD, "losses", "losses: [{name: l2, label: a, kl_weight: 0.001}, {name: l1, label: b}]"),
        "datasets",
        "datasets: [{name: blobs, label: c}]",
    ),
    "what is ranked": replaced(GOOD, "ranking", "ranking: {metrics: [ssim]}"),
    "the metrics, which train nothing": replaced(GOOD, "metrics", "metrics: [psnr]"),
    "the label of a metric": replaced(GOOD, "metrics", "metrics: [psnr, {name: ssim, label: x}]"),
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_ids_do_not_change_with(load, text):
    assert ids(load(text=text)) == ids(load())


def test_the_order_of_losses_orders_the_jobs_and_keeps_their_ids(load):
    other = load(losses="losses: [l1, {name: l2, kl_weight: 0.001}]")
    assert ids(other) != ids(load())
    assert set(ids(other)) == set(ids(load()))


CHANGES = {
    "the data set": {"datasets": "datasets: [data]"},
    "a parameter of the data set": {"datasets": "datasets: [{name: blobs, params: {salt: 1}}]"},
    "a parameter of the architecture": {"architectures": "architectures: [{name: linear, params: {latent_size: 5}}]"},
    "the loss": {"losses": "losses: [{name: ce, kl_weight: 0.001}, charbonnier]"},
    "a parameter of the loss": {"losses": "losses: [{name: many, params: {real: 2}}]"},
    "another parameter of it": {"losses": "losses: [{name: many, params: {flag: true}}]"},
    "the weight of the KL term": {"losses": "losses: [{name: l2, kl_weight: 0.002}, {name: l1, kl_weight: 2}]"},
    "its default": {"training": "training: {epochs: 2, kl_weight: 3}", "losses": "losses: [l1, l2]"},
    "the seeds": {"seeds": "seeds: [2, 3]"},
    **{
        f"training.{key}": {"training": f"training: {{epochs: 2, {key}: {value}}}"}
        for key, value in {
            "batch_size": 32,
            "optimizer": "lion",
            "learning_rate": 1e-3,
            "beta1": 0.95,
            "beta2": 0.99,
            "schedule": "plateau",
            "warmup": "0.1, schedule: cosine",
            "patience": 4,
            "factor": 0.5,
            "precision": "bf16",
            "compile": "true",
            "deterministic": "false",
        }.items()
    },
    "training.epochs": {"training": "training: {epochs: 3}"},
}


@pytest.mark.parametrize("keys", CHANGES.values(), ids=CHANGES)
def test_ids_change_with(load, keys):
    assert not set(ids(load(**keys))) & set(ids(load()))


def test_warmup_is_part_of_jobs_with_cosine_alone(load):
    """Jobs that do not use it keep the ids that they had before there was such a key."""

    def of(schedule: str, warmup: float) -> tuple[str, ...]:
        return ids(load(training=f"training: {{epochs: 2, schedule: {schedule}, warmup: {warmup}}}"))

    assert of("constant", 0.1) == of("constant", 0.2) == ids(load())
    assert not set(of("cosine", 0.1)) & set(of("cosine", 0.2))


def test_every_key_of_training_is_known_to_change_ids():
    assert {key.partition(".")[2] for key in CHANGES if key.startswith("training.")} == set(Training.model_fields)


def test_ids_change_with_the_code_of_the_plugin(tmp_path):
    (tmp_path / "s.yaml").write_text(GOOD)
    plugin = tmp_path / "plugin.py"

    def versions() -> Iterator[tuple[str, ...]]:
        for old, new in (
            ("", ""),
            ("class Misbehaving", "# a comment\n    class Misbehaving"),
            (".square()", ".abs()"),
        ):
            plugin.write_text(TINY.read_text().replace(old, new) if old else TINY.read_text())
            yield ids(load_suite(tmp_path / "s.yaml", Registry(load_plugins([plugin]))))

    first, commented, changed = versions()
    assert first == commented
    assert not set(first) & set(changed)


def test_a_plan_that_was_tampered_with_is_refused(load):
    plan = load().plan
    data = plan.model_dump()
    for change in (
        {"jobs": [{**data["jobs"][0], "setting": 1}]},
        {"jobs": [{**data["jobs"][0], "method": -1}]},
        {"jobs": [{**data["jobs"][0], "id": "../../etc"}]},
        {"ranking": ["lpips"]},
        {"columns": []},
    ):
        with pytest.raises(ValueError, match=r"metrics, columns and ranking|does not exist|as id of a job"):
            type(plan).model_validate({**data, **change})


TWO = """\
datasets: [blobs]
architectures: [linear, {name: linear, label: wide, params: {latent_size: {grid: [6, 8]}}}]
losses:
  - {name: l2, architectures: [linear]}
  - {name: l1, architectures: [wide latent_size=8]}
  - {name: ce, architectures: [wide]}
  - charbonnier
seeds: [0]
training: {epochs: 2}
metrics: [psnr]
"""


def test_a_loss_is_tried_with_the_architectures_it_names(load):
    suite = load(text=TWO)
    found = {(suite.plan.settings[j.setting].label, suite.plan.methods[j.method].label) for j in suite.plan.jobs}
    assert found == {
        ("blobs · linear", "l2"),
        ("blobs · wide latent_size=8", "l1"),
        ("blobs · wide latent_size=6", "ce"),
        ("blobs · wide latent_size=8", "ce"),
        *((f"blobs · {label}", "charbonnier") for label in ("linear", "wide latent_size=6", "wide latent_size=8")),
    }


def test_the_resolved_form_has_the_same_restrictions(load):
    suite = load(text=TWO)
    assert ids(load(text=suite.resolved)) == ids(suite)


def test_architectures_that_are_not_there_or_not_used(load):
    problems = refuse_with(load, TWO.replace("architectures: [linear]}", "architectures: [linaer]}"))
    assert any(
        "losses[0].architectures[0]: the suite has no architecture 'linaer'; did you mean" in p for p in problems
    )
    text = TWO.replace("  - charbonnier\n", "").replace("[wide]", "[wide latent_size=8]")
    problems = refuse_with(load, text)
    assert any("no loss is trained with wide latent_size=6" in problem for problem in problems)


PUBLISHED = """
published:
  - source: A paper, table 1
    architecture: linear
    scores:
      l2: {psnr: [20.5, 1.5]}
      charbonnier: {psnr: 21, fid_gen: 65.6}
"""


def test_published_numbers_have_their_places(load):
    suite = load(text=TWO + PUBLISHED)
    found = {
        (suite.plan.settings[p.setting].label, suite.plan.methods[p.method].label, p.metric, p.mean, p.std)
        for p in suite.plan.published
    }
    assert found == {
        ("blobs · linear", "l2", "psnr", 20.5, 1.5),
        ("blobs · linear", "charbonnier", "psnr", 21.0, None),
        ("blobs · linear", "charbonnier", "fid_gen", 65.6, None),
    }
    assert {p.source for p in suite.plan.published} == {"A paper, table 1"}
    assert ids(suite) == ids(load(text=TWO))
    assert load(text=suite.resolved).plan.published == suite.plan.published


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("l2: {", "l3: {", "published[0].scores.l3: the suite has no method 'l3'"),
        (
            "[20.5, 1.5]",
            "[1, 2, 3]",
            "published[0].scores.l2.psnr: expected a number or a pair [mean, std], got [1, 2, 3]",
        ),
        ("[20.5, 1.5]", "high", "published[0].scores.l2.psnr: expected a number or a pair [mean, std], got 'high'"),
        ("    architecture: linear\n", "", "published[0].architecture: say which architecture"),
        ("architecture: linear", "architecture: lines", "published[0].architecture: the suite has no architecture"),
        ("  - source: A paper, table 1\n   ", "  -", "published[0].source: is missing"),
        ("    scores:", "    score:", "published[0].score: unknown key; did you mean 'scores'?"),
    ],
)
def test_published_numbers_of_nothing(load, old, new, message):
    assert old in PUBLISHED
    assert any(message in problem for problem in refuse_with(load, TWO + PUBLISHED.replace(old, new)))


def refuse_with(load, text):
    with pytest.raises(SuiteError) as caught:
        load(text=text)
    return [str(problem) for problem in caught.value.problems]


WEIGHTY = """\
from recbench import LossEntry, Parameter, Weights, hookimpl

FILE = Weights(
    file="learned.pth", address="https://example.org/learned.pth", sha256="2c26b46b68ffc68ff99b453c1d30413413422d706483"
    "bfa0f98a5e886266e7ae", size=3, licence="MIT", alternative="weights: initial",
)

@hookimpl
def recbench_losses():
    yield LossEntry(
        name="weighty", factory="torch.nn:Identity", summary="", weights=(FILE,),
        parameters=(Parameter("weights", str, "pretrained", "", choices=("pretrained", "initial")),),
        needed=lambda shape, params: [FILE] if params["weights"] == "pretrained" else [],
    )
"""


def test_missing_weights_are_reported_before_anything_runs(tmp_path, monkeypatch):
    (tmp_path / "plugin.py").write_text(WEIGHTY)
    registry = Registry(load_plugins([TINY, tmp_path / "plugin.py"]))
    (tmp_path / "s.yaml").write_text(replaced(GOOD, "losses", "losses: [weighty]"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("RECBENCH_WEIGHTS", str(tmp_path / "weights"))
    (problem,) = load_suite(tmp_path / "s.yaml", registry).lacking
    for part in ("s.yaml:4: losses[0]: weighty needs", "learned.pth", "recbench weights fetch", "weights: initial"):
        assert part in str(problem)
    assert not load_suite(tmp_path / "s.yaml", registry, ["losses.weighty.params.weights=initial"]).lacking
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "learned.pth").write_bytes(b"foo")
    assert not load_suite(tmp_path / "s.yaml", registry).lacking


def test_the_label_of_the_rate_is_taken(load):
    assert load(metrics="metrics: [psnr, kl]")
    problems = refuse_with(load, replaced(GOOD, "metrics", "metrics: [{name: psnr, label: kl}]"))
    assert any("kl is the label of the KL divergence" in problem for problem in problems)


# Many problems


MANY = ", ".join(f"x{number}: 1" for number in range(10_000))


@pytest.mark.parametrize(
    "keys",
    [
        {"losses": f"losses: [{{name: l2, {MANY}}}]"},
        {"training": f"training: {{epochs: 2, {MANY}}}"},
        {"losses": f"losses: [{{name: l2, params: {{{MANY}}}}}]"},
    ],
    ids=["item", "training", "params"],
)
def test_each_of_thousands_of_unknown_keys_is_a_problem(load, keys):
    """In seconds: where the errors were read once for each of them, this took minutes."""
    with pytest.raises(SuiteError) as caught:
        load(**keys)
    assert len(caught.value.problems) == 10_000


TUNED = "tuning: {{budget: 2, kl_weight: {{low: 0.001, high: 1}}{}}}"


@pytest.mark.parametrize(
    ("metrics", "select", "message"),
    [
        ("spectrum_gen, psnr", ", select: {metric: spectrum_gen}", "vq, which has no prior to draw samples from; name"),
        ("psnr, kl", ", select: {metric: kl}", "kl cannot select among trials of vq, which has no KL divergence; name"),
        ("fd_enet_gen, psnr", "", "fd_enet_gen cannot select among trials of vq, which has no prior"),
        ("bits_per_dim, l1", ", select: {metric: bits_per_dim}", "as in select: {metric: l1}"),
    ],
)
def test_a_metric_that_an_architecture_has_no_score_of_cannot_select(
    refuse: Callable[..., list[str]], metrics: str, select: str, message: str
) -> None:
    keys = {"losses": "losses: [l2]", "metrics": f"metrics: [{metrics}]", "tuning": TUNED.format(select)}
    problems = refuse(architectures="architectures: [linear, vq]", **keys)
    assert [problem for problem in problems if message in problem], problems


def test_a_metric_of_reconstructions_may_select_for_any_architecture(load: Load) -> None:
    keys = {"losses": "losses: [l2]", "metrics": "metrics: [psnr]", "tuning": TUNED.format(", select: {metric: psnr}")}
    assert load(architectures="architectures: [linear, vq]", **keys).plan.tuning is not None
