"""What a run shows: lines, a live view, TensorBoard, W&B; and curves."""

import json
import sys
import types

import pytest

from cogvx.errors import InputError, MissingError
from cogvx.training import report as module
from cogvx.training.plot import curves, plot, read_metrics, smooth
from cogvx.training.recipe import ModelOptions, Recipe, RunOptions, Stage
from cogvx.training.recipe_toml import read_recipe
from cogvx.training.report import Report, Work, describe, duration, peak_flops


class Clock:
    """A time that moves when told."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def toy(**run):
    return Recipe(kind="dit", model=ModelOptions(base="tiny"), run=RunOptions(**run), stages=(Stage(steps=100),))


def training(step, loss=0.5, **more):
    return {"step": step, "loss": loss, "lr": 1e-4, "tokens": 1000, "clips": 10} | more


def take_steps(report, clock, first, last, seconds=1.0):
    for step in range(first, last + 1):
        clock.now += seconds
        report.step(step)


def test_lines_have_loss_speed_and_time_left(tmp_path, clock, capsys):
    report = Report(toy(), tmp_path)
    report.begin(0)
    report.log({"step": 0, "val_loss": 1.25, "val_loss_100": 1.5})
    take_steps(report, clock, 1, 10)
    report.log(training(10))
    report.note("wrote checkpoint-000010")
    report.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "cogvx: 0/100 val_loss 1.25 · val_loss_100 1.5",
        "cogvx: 10/100 loss 0.5 · lr 1.0e-04 · 1 clips/s · 100 tokens/s · 1 min 30 s left",
        "cogvx: wrote checkpoint-000010",
    ]


def test_lines_are_few_but_never_leave_out_a_validation_or_the_end(tmp_path, clock, capsys):
    report = Report(toy(), tmp_path)
    report.begin(90)
    for step in range(91, 101):
        take_steps(report, clock, step, step, seconds=0.2)
        report.log(training(step))
    report.log({"step": 100, "psnr": 20.0})
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["91/100", "100/100", "100/100"]


def test_speed_leaves_out_validation_and_checkpoints(tmp_path, clock, capsys):
    report = Report(toy(), tmp_path)
    report.begin(0)
    take_steps(report, clock, 1, 5)
    clock.now += 60
    report.log({"step": 5, "val_loss": 1.0})
    clock.now += 60
    report.note("wrote a checkpoint")
    take_steps(report, clock, 6, 10)
    report.log(training(10))
    assert "1 clips/s" in capsys.readouterr().err


def test_use_of_the_device(tmp_path, clock, capsys):
    work = Work(flops_per_token=6.0, flops_per_pair=0.5, peak=1120.0)
    assert work.flops(tokens=1000, clips=10) == 1000 * 6 + 10 * 100**2 * 0.5
    report = Report(toy(), tmp_path, work=work)
    report.begin(0)
    take_steps(report, clock, 1, 100)
    report.log(training(100))
    assert "50.0% of peak" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA H200", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA A100-SXM4-80GB", 312e12), ("NVIDIA L4", 121e12)],
)
def test_peaks_of_known_devices(name, peak):
    assert peak_flops(name) == peak


def test_peaks_of_unknown_devices():
    assert peak_flops("x86_64") is None and peak_flops("NVIDIA T1000") is None


def test_quiet_shows_warnings_only(tmp_path, capsys):
    report = Report(toy(), tmp_path, quiet=True)
    report.begin(0)
    report.step(1)
    report.log(training(1))
    report.note("wrote")
    report.warn("a clip is broken")
    report.close()
    assert capsys.readouterr().err == "cogvx: warning: a clip is broken\n"


def test_a_terminal_shows_a_bar(tmp_path, clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    report = Report(toy(), tmp_path)
    report.begin(0)
    take_steps(report, clock, 1, 10)
    report.log(training(10, loss=0.25))
    report.log({"step": 10, "val_loss": 0.75})
    report.note("wrote [red]x[/red]\x1b[2J")
    report._view._progress.refresh()
    report.close()
    report.close()
    err = capsys.readouterr().err
    assert "10/100 val_loss 0.75" in err and "loss 0.25" in err and "1 min 30 s left" in err
    assert "wrote [red]x[/red]" in err and "\x1b[2J" not in err


def test_the_run_folder_has_the_recipe(tmp_path):
    recipe = toy(wandb="")
    Report(recipe, tmp_path, quiet=True).begin(0)
    assert read_recipe(tmp_path) == recipe


def test_words():
    assert [duration(s) for s in (3, 75, 3700, 200_000)] == ["3 s", "1 min 15 s", "1 h 01 min", "2 d 7 h"]
    assert describe({"step": 1, "clips_per_s": 0.123, "tokens_per_s": 37_123, "name": "x"}) == (
        "0.123 clips/s · 37.1k tokens/s"
    )


def test_tensorboard_has_the_numbers_and_no_later_ones(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first, value in ((0, 1.0), (2, 5.0)):  # the second goes on from step 2
        report = Report(toy(tensorboard=True), tmp_path, quiet=True)
        report.begin(first)
        for step in range(first + 1, 5):
            report.log(training(step, loss=value + step, stage="x"))
        report.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 2.0), (2, 3.0), (3, 8.0), (4, 9.0)]


def test_loggers_that_are_not_there(tmp_path, monkeypatch):
    for name, options in (("wandb", {"wandb": "mine"}), ("torch.utils.tensorboard", {"tensorboard": True})):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingError, match="pip install"):
            Report(toy(**options), tmp_path, quiet=True).begin(0)


def test_wandb_goes_on_with_its_run(tmp_path, monkeypatch):
    calls = []

    class Run:
        def log(self, numbers, step):
            calls.append((step, numbers))

        def finish(self):
            calls.append("finished")

    def init(**settings):
        calls.append(settings)
        return Run()

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    for _ in range(2):
        report = Report(toy(wandb="mine"), tmp_path / "run", quiet=True)
        report.begin(0)
        report.log({"step": 1, "loss": 0.5, "note": "x"})
        report.close()
    assert calls[0]["id"] == calls[3]["id"] and calls[0]["resume"] == "allow" and calls[0]["project"] == "mine"
    assert calls[0]["config"]["optim"]["lr"] == 1e-4 and calls[0]["name"] == "run"
    assert calls[1] == (1, {"loss": 0.5}) and calls[2] == "finished"


RECORDS = [
    {"step": 0, "val_loss": 1.0, "val_loss_100": 1.5, "val_loss_900": 0.5},
    {"step": 10, "loss": 0.9, "lr": 1e-4, "psnr": 5.0, "tokens": 7},
    {"step": 20, "loss": 0.8, "lr": 5e-5, "psnr": 6.0, "tokens": 7},
    {"step": 20, "val_loss": 0.9, "val_loss_100": 1.4, "val_loss_900": 0.4, "psnr": 9.0, "ema_val_loss": 0.85},
]


def make_run(folder, records=RECORDS):
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_curves_tell_training_from_held_out(tmp_path):
    found = curves(read_metrics(make_run(tmp_path / "run")))
    assert found["loss"] == ([10, 20], [0.9, 0.8])
    assert found["val_loss_100"] == ([0, 20], [1.5, 1.4])
    assert found["ema_val_loss"] == ([20], [0.85])
    assert found["psnr"] == ([10, 20], [5.0, 6.0]) and found["val_psnr"] == ([20], [9.0])


def test_smoothing_keeps_a_constant():
    assert smooth([3.0] * 5) == pytest.approx([3.0] * 5)
    assert smooth([0.0, 1.0]) == pytest.approx([0, 0.1 / 0.19])


def test_curves_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from PIL import Image

    one = make_run(tmp_path / "a" / "run")
    vae = make_run(
        tmp_path / "b" / "run", [{"step": 0, "psnr": 9.0}, {"step": 1, "loss": 2.0, "lr": 1e-3, "psnr": 8.0}]
    )
    plot([one], tmp_path / "one.png")
    plot([one, vae], tmp_path / "two.png")
    for name in ("one.png", "two.png"):
        with Image.open(tmp_path / name) as image:
            assert image.size == (1650, 462) and len(image.convert("RGB").getcolors(1 << 20)) > 10
    assert not list(tmp_path.glob(".cogvx*"))


def test_a_line_that_is_being_written_is_left_out(tmp_path):
    run = make_run(tmp_path / "run")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "lo')
    assert len(read_metrics(run)) == 4


@pytest.mark.parametrize("content", [None, "", "{}\n", "[1]\n", "nonsense\n", '{"step": "x"}\n'])
def test_metrics_that_cannot_be_read(tmp_path, content):
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(InputError):
        read_metrics(tmp_path)


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingError, match=r"cogvx\[plot\]"):
        plot([make_run(tmp_path / "run")], tmp_path / "x.png")
