"""`cogvx sample` as a user meets it: files, names, batches, records, refusals."""

import json

import numpy as np
import pytest
import torch

from cogvx.data.latents import load_latents
from cogvx.data.video import frames_sha256, probe, read_clip

PROMPT = "a red star moves to the right"


@pytest.fixture
def sample(cogvx, model_folder):
    """Run `cogvx sample` with a tiny model and few steps."""

    def run(*arguments, form="5b", **settings):
        fixed = [] if "-m" in arguments else ["-m", model_folder(form)]
        fixed += [] if "--steps" in arguments else ["--steps", 2]
        own_size = {"--frames", "--like", "--prompts", "--latents"} & set(map(str, arguments))
        return cogvx("sample", *arguments, *fixed, *([] if own_size else ["--frames", 9]), **settings)

    return run


def records(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_one_clip_prints_its_path(sample, tmp_path):
    result = sample(PROMPT, "-o", "star.mp4")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "star.mp4\n"
    info = probe(tmp_path / "star.mp4")
    assert (info.codec, info.width, info.height, info.frames, info.fps) == ("h264", 48, 32, 9, 8)
    assert [path.name for path in tmp_path.iterdir()] == ["star.mp4"]


def test_default_name_is_made_of_the_prompt(sample, tmp_path):
    first, other = sample(PROMPT), sample(PROMPT, "--steps", 3)
    name = first.stdout.strip()
    assert name.startswith("a-red-star-moves-to-the-right-") and name.endswith(".mp4")
    assert other.stdout.strip() != name  # other options, another clip
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["x.gif", "x.webp", "x.webm", "x.mkv", "frames"])
def test_forms_by_name(sample, tmp_path, name):
    result = sample(PROMPT, "-o", name)
    assert (result.exit_code, result.stdout) == (0, f"{name}\n"), result.stderr
    clip = read_clip(tmp_path / name)
    assert clip.frames.shape == (9, 32, 48, 3)
    record = json.loads(clip.metadata["comment"])
    if name in ("x.mkv", "frames"):
        assert frames_sha256(clip.frames) == record["frames_sha256"]


def test_json_has_what_the_contract_says(sample):
    (record,) = records(sample(PROMPT, "-o", "x.mkv", "--json", "--seed", 5))
    assert record["output"] == "x.mkv" and record["seed"] == 5 and record["seconds"] > 0
    assert record["frames_sha256"] == frames_sha256(read_clip("x.mkv").frames)


def test_stdout_carries_the_bytes_and_nothing_else(sample, tmp_path):
    result = sample(PROMPT, "-o", "-", "--json")
    assert result.exit_code == 0
    (tmp_path / "got.mp4").write_bytes(result.stdout_bytes)
    assert probe(tmp_path / "got.mp4").frames == 9


def test_existing_output_is_kept_unless_told(sample, tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"mine")
    kept = sample(PROMPT, "-o", "x.mp4")
    assert (kept.exit_code, kept.stdout) == (0, "x.mp4\n")
    assert "--overwrite" in kept.stderr and (tmp_path / "x.mp4").read_bytes() == b"mine"
    assert sample(PROMPT, "-o", "x.mp4", "--overwrite").exit_code == 0
    assert probe(tmp_path / "x.mp4").frames == 9


def test_seed_decides_whatever_is_made_beside_it(sample, tmp_path):
    prompts = ["a blue boat", PROMPT]
    batch = records(sample(*prompts, "-o", "a", "--json", "--seed", 4, "--num-videos", 2, "--memory", "model"))
    assert [(r["prompt"], r["seed"]) for r in batch] == [(p, s) for p in prompts for s in (4, 5)]
    alone = records(sample(PROMPT, "-o", "b.mkv", "--json", "--seed", 5, "--memory", "none"))
    assert alone[0]["frames_sha256"] == batch[3]["frames_sha256"]
    assert len({record["frames_sha256"] for record in batch}) == 4
    assert len(list((tmp_path / "a").iterdir())) == 4


@pytest.mark.parametrize("form", ["2b", "5b", "1.5"])
def test_memory_modes_give_the_same_clip(sample, form):
    hashes = {
        mode: records(sample(PROMPT, "-o", f"{mode}.mp4", "--json", "--memory", mode, form=form))[0]["frames_sha256"]
        for mode in ("none", "model", "layer")
    }
    assert len(set(hashes.values())) == 1


def test_attention_kernels_agree(sample, tmp_path):
    for name in ("sdpa", "reference"):
        arguments = ["-o", f"{name}.safetensors", "--output-type", "latents", "--attention", name]
        assert sample(PROMPT, *arguments).exit_code == 0
    one, two = (load_latents(tmp_path / f"{name}.safetensors")[0] for name in ("sdpa", "reference"))
    assert (one - two).abs().max() < 1e-3 * one.abs().max()


def test_half_precision(sample):
    (record,) = records(sample(PROMPT, "-o", "x.mp4", "--json", "--dtype", "bf16"))
    assert record["output"] == "x.mp4"


def test_tiles_change_the_numbers_and_are_recorded(sample):
    hashes = []
    for tiling in ("on", "off"):
        options = ["-o", f"{tiling}.mkv", "--json", "--vae-tiling", tiling]
        hashes.append(records(sample(PROMPT, *options))[0]["frames_sha256"])
        assert json.loads(probe(f"{tiling}.mkv").comment)["tiled"] is (tiling == "on")
    assert hashes[0] != hashes[1]


class TestRecord:
    def test_says_how_the_clip_was_made_and_no_paths(self, sample, model_folder):
        sample(PROMPT, "-o", "x.mp4", "--seed", 9, "--negative-prompt", "blue", "--guidance", 3)
        text = probe("x.mp4").comment
        record = json.loads(text)
        wanted = {"prompt": PROMPT, "negative_prompt": "blue", "seed": 9, "guidance_scale": 3.0, "num_steps": 2}
        assert wanted.items() <= record.items()
        assert record["model"] == "tiny-5b" and set(record["weights"]) == {"text_encoder", "transformer", "vae"}
        assert record["machine"]["device"] == "cpu" and record["machine"]["threads"] >= 1
        assert record["versions"]["torch"] == torch.__version__
        assert str(model_folder("5b").parent) not in text

    def test_no_metadata(self, sample):
        sample(PROMPT, "-o", "x.mp4", "--no-metadata")
        assert probe("x.mp4").comment in (None, "")

    def test_like_repeats_and_flags_override(self, sample):
        made = records(
            sample(PROMPT, "-o", "x.mp4", "--json", "--seed", 9, "--frames", 9, "--fps", 12, "--guidance", 3)
        )
        again = records(sample("--like", "x.mp4", "-o", "y.mp4", "--json"))
        assert again[0]["frames_sha256"] == made[0]["frames_sha256"] and again[0]["fps"] == 12
        changed = records(sample("--like", "x.mp4", "-o", "z.mp4", "--json", "--seed", 10))
        assert changed[0]["seed"] == 10 and changed[0]["num_frames"] == 9
        assert changed[0]["frames_sha256"] != made[0]["frames_sha256"]
        other = records(sample("a blue boat", "--like", "x.mp4", "-o", "w.mp4", "--json"))
        assert other[0]["prompt"] == "a blue boat" and other[0]["seed"] == 9

    def test_like_a_clip_without_a_record(self, sample):
        sample(PROMPT, "-o", "x.mp4", "--no-metadata")
        result = sample("--like", "x.mp4", "-o", "y.mp4")
        assert result.exit_code == 3 and "does not say how it was made" in result.stderr

    def test_like_needs_the_folder_of_a_model_again(self, sample, cogvx):
        sample(PROMPT, "-o", "x.mp4")
        result = cogvx("sample", "--like", "x.mp4", "-o", "y.mp4")
        assert result.exit_code == 2 and "--model" in result.stderr

    def test_like_with_other_weights_warns(self, sample):
        sample(PROMPT, "-o", "x.mp4")
        result = sample("--like", "x.mp4", "-o", "y.mp4", form="1.5")
        assert result.exit_code == 0 and "differ" in result.stderr


class TestDryRun:
    def test_prints_a_plan_and_writes_nothing(self, sample, tmp_path):
        (record,) = records(sample(PROMPT, "-o", "x.mp4", "--dry-run", "--json", "--frames", 17))
        assert (record["height"], record["width"], record["num_frames"], record["num_steps"]) == (32, 48, 17, 2)
        assert record["tokens"] == 12 + 5 * 2 * 3
        assert record["peak_bytes"] > 0 and record["seconds"] >= 0 and record["disk_bytes"] > 0
        text = sample(PROMPT, "another", "--dry-run")
        assert text.exit_code == 0 and len(text.stdout.splitlines()) == 2
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("flags", "near"),
        [
            (["--frames", 16], "9 or 17"),
            (["--frames", 13], "9 or 17"),
            (["--height", 40], "32 or 48"),
            (["--width", 50], "48 or 64"),
            (["--width", 8], "16"),
        ],
    )
    @pytest.mark.parametrize("dry", [["--dry-run"], []])
    def test_illegal_sizes_name_the_nearest(self, sample, tmp_path, flags, near, dry):
        result = sample(PROMPT, *flags, *dry)
        assert result.exit_code == 2
        assert result.stderr.strip().endswith(f"nearest: {near}")
        assert list(tmp_path.iterdir()) == []

    def test_size_beyond_the_table_of_1_5(self, sample):
        result = sample(PROMPT, "--height", 48, form="1.5")
        assert result.exit_code == 2 and result.stderr.strip().endswith("nearest: 32")


class TestBatch:
    def rows(self, tmp_path):
        rows = [
            {"prompt": PROMPT, "seed": 3, "output": "one.mp4"},
            {"prompt": "a blue boat", "frames": 9, "guidance": 1, "fps": 4, "unknown": "kept out"},
            {"prompt": "a blue boat", "frames": 10},
            {"prompt": ""},
            {"seed": 3},
            {"prompt": "up", "seed": "three"},
            {"prompt": "down", "output": "../away.mp4"},
            {"prompt": "left", "steps": 3, "height": 48, "width": 32, "output": "sub/left.gif"},
        ]
        lines = [json.dumps(row) for row in rows]
        (tmp_path / "p.jsonl").write_text("\n".join([*lines[:4], "{broken", *lines[4:]]) + "\n")
        return lines

    def test_bad_rows_do_not_stop_the_others(self, sample, tmp_path):
        self.rows(tmp_path)
        result = sample("--prompts", "p.jsonl", "-o", "clips", "--json")
        assert result.exit_code == 3
        failures = [record for record in records(result) if "error" in record]
        assert [record["input"].split()[0] for record in failures] == [f"p.jsonl:{n}" for n in (3, 4, 5, 6, 7, 8)]
        made = [record for record in records(result) if "error" not in record]
        assert [record["output"] for record in made][0] == "clips/one.mp4"
        assert made[2]["output"] == "clips/sub/left.gif" and (made[2]["height"], made[2]["width"]) == (48, 32)
        assert made[1]["num_frames"] == 9 and made[1]["fps"] == 4
        assert "p.jsonl:3" in result.stderr and "nearest: 9 or 17" in result.stderr
        assert not (tmp_path / "away.mp4").exists()
        files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
        assert {"clips/one.mp4", "clips/sub/left.gif"} < files and len(files) == 4

    def test_again_makes_only_what_is_missing(self, sample, tmp_path):
        (tmp_path / "p.txt").write_text(f"{PROMPT}\n\na blue boat\n")
        first = records(sample("--prompts", "p.txt", "-o", "clips", "--json"))
        (tmp_path / first[1]["output"]).unlink()
        changed = (tmp_path / first[0]["output"]).stat().st_mtime_ns
        again = records(sample("--prompts", "p.txt", "-o", "clips", "--json"))
        assert again[0] == {"output": first[0]["output"], "input": PROMPT, "seed": 0, "skipped": True}
        assert again[1]["frames_sha256"] == first[1]["frames_sha256"]
        assert (tmp_path / first[0]["output"]).stat().st_mtime_ns == changed

    def test_prompts_from_stdin(self, sample):
        assert len(sample("-", "-o", "a/", input=f"{PROMPT}\na blue boat\n").stdout.splitlines()) == 2
        rows = '{"prompt": "up", "seed": 4}\n'
        (record,) = records(sample("--prompts", "-", "-o", "b", "--json", input=rows))
        assert record["seed"] == 4 and record["output"].startswith("b/up-")

    def test_one_file_cannot_hold_two_clips(self, sample):
        for output in ("x.mp4", "-"):
            result = sample(PROMPT, "another", "-o", output)
            assert result.exit_code == 2 and "folder" in result.stderr

    def test_files_that_cannot_be_read(self, sample, tmp_path):
        (tmp_path / "latin.txt").write_bytes(b"a caf\xe9\n")
        (tmp_path / "empty.txt").write_text("\n")
        for name, words in [
            ("latin.txt", "latin.txt:1: not UTF-8"),
            ("empty.txt", "no prompts"),
            ("no.txt", "cannot read"),
        ]:
            result = sample("--prompts", name)
            assert result.exit_code == 3 and words in result.stderr


class TestLatents:
    def test_latents_decode_to_the_clip(self, sample, cogvx, model_folder, tmp_path):
        for form in ("5b", "1.5"):
            clip = records(sample(PROMPT, "-o", f"{form}.mkv", "--json", form=form))[0]
            made = sample(PROMPT, "-o", f"{form}.safetensors", "--output-type", "latents", form=form)
            assert made.stdout == f"{form}.safetensors\n"
            latents, info = load_latents(tmp_path / f"{form}.safetensors")
            assert latents.shape == (4, 3, 4, 6) and (info.num_frames, info.height, info.width) == (9, 32, 48)
            decoded = cogvx(
                "vae", "decode", f"{form}.safetensors", "-m", model_folder(form), "-o", "d.mkv", "--json", "--overwrite"
            )
            assert json.loads(decoded.stdout)["frames_sha256"] == clip["frames_sha256"]

    def test_noise_of_a_wrong_shape(self, sample, tmp_path):
        sample(PROMPT, "-o", "n.safetensors", "--output-type", "latents")
        assert sample(PROMPT, "--latents", "n.safetensors", "-o", "a.mp4").exit_code == 0
        result = sample(PROMPT, "--latents", "n.safetensors", "--frames", 17, "-o", "b.mp4")
        assert result.exit_code == 3 and "shape" in result.stderr


class TestRefusals:
    def test_model_names(self, cogvx):
        unknown = cogvx("sample", PROMPT, "-m", "6b")
        assert unknown.exit_code == 2 and "did you mean" in unknown.stderr
        offline = cogvx("sample", PROMPT, "-m", "5b")
        assert offline.exit_code == 4 and "cogvx models pull 5b" in offline.stderr
        missing = cogvx("sample", PROMPT, "-m", "./nothing")
        assert missing.exit_code == 3 and "no such folder" in missing.stderr
        for result in (unknown, offline, missing):
            assert len(result.stderr.strip().splitlines()) == 1 and result.stdout == ""

    def test_environment_names_the_model(self, cogvx, model_folder):
        result = cogvx("sample", PROMPT, "--dry-run", env={"COGVX_MODEL": str(model_folder("2b"))})
        assert result.exit_code == 0 and "tiny-2b" in result.stdout

    def test_image_model_is_sent_to_i2v(self, sample):
        result = sample(PROMPT, form="5b-i2v")
        assert result.exit_code == 2 and "cogvx i2v" in result.stderr

    def test_names_that_are_no_clip(self, sample, tmp_path):
        assert "must end in" in sample(PROMPT, "-o", "x.txt").stderr
        (tmp_path / "file").write_text("")
        result = sample(PROMPT, "-o", "file/x.mp4")
        assert result.exit_code == 2 and "not a folder" in result.stderr

    def test_damaged_weights(self, sample, model_folder, tmp_path):
        import shutil

        shutil.copytree(model_folder("5b"), tmp_path / "m")
        weights = tmp_path / "m" / "transformer" / "diffusion_pytorch_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        result = sample(PROMPT, "-m", tmp_path / "m", "-o", "x.mp4")
        assert result.exit_code == 3 and "diffusion_pytorch_model.safetensors" in result.stderr
        assert not (tmp_path / "x.mp4").exists()

    def test_numbers_that_overflow(self, sample, model_folder, tmp_path):
        import shutil

        from safetensors.torch import load_file, save_file

        shutil.copytree(model_folder("5b"), tmp_path / "m")
        weights = tmp_path / "m" / "transformer" / "diffusion_pytorch_model.safetensors"
        tensors = load_file(weights)
        tensors["proj_out.bias"][0] = float("nan")
        save_file(tensors, weights)
        result = sample(PROMPT, "-m", tmp_path / "m", "-o", "x.mp4")
        assert result.exit_code == 1 and "not finite after step 1" in result.stderr
        assert not (tmp_path / "x.mp4").exists()

    def test_disk_full_leaves_nothing(self, sample, tmp_path, monkeypatch):
        import errno

        from cogvx.data import video

        def full(*arguments, **settings):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(video, "encode_video", full)
        result = sample(PROMPT, "a blue boat", "-o", "clips")
        assert result.exit_code == 4 and "clips/" in result.stderr
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

    def test_long_prompt_is_cut_aloud(self, sample):
        result = sample("red star " * 20, "-o", "x.mp4")
        assert result.exit_code == 0 and "reads the first 12" in result.stderr


def test_guidance_of_one_is_no_guidance(sample, tmp_path):
    """At guidance 1 the negative prompt is not used."""
    for name, negative in (("a", ""), ("b", "blue boat")):
        arguments = [
            "--guidance",
            1,
            "--negative-prompt",
            negative,
            "-o",
            f"{name}.safetensors",
            "--output-type",
            "latents",
        ]
        assert sample(PROMPT, *arguments).exit_code == 0
    one, two = (load_latents(tmp_path / f"{name}.safetensors")[0] for name in "ab")
    assert torch.equal(one, two)


def test_quiet_and_verbose(sample):
    assert sample(PROMPT, "-o", "a.mp4", "-q").stderr == ""
    assert "memory mode" in sample(PROMPT, "-o", "b.mp4", "-v").stderr


def test_fps_changes_the_file_only(sample):
    first = records(sample(PROMPT, "-o", "a.mp4", "--json"))[0]
    second = records(sample(PROMPT, "-o", "b.mp4", "--json", "--fps", 24))[0]
    assert first["frames_sha256"] == second["frames_sha256"] and probe("b.mp4").fps == 24


def test_one_frame_is_an_image(sample):
    result = sample(PROMPT, "-o", "a.mkv", "--frames", 1)
    assert result.exit_code == 0, result.stderr
    assert read_clip("a.mkv").frames.shape[0] == 1


def test_lora_changes_the_clip_alike_in_every_memory_mode(sample, model_folder):
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    shapes = {"lora_A": (2, 32), "lora_B": (32, 2)}
    stem = "transformer.transformer_blocks.0.attn1.to_q"
    tensors = {f"{stem}.{n}.weight": torch.randn(shape, generator=generator) for n, shape in shapes.items()}
    save_file(tensors, "style.safetensors")
    plain = records(sample(PROMPT, "-o", "plain.mp4", "--json"))[0]
    hashes = set()
    for mode in ("none", "layer"):
        made = sample(PROMPT, "-o", f"{mode}.mp4", "--json", "--lora", "style.safetensors:0.5", "--memory", mode)
        assert made.exit_code == 0, made.stderr
        assert "warning" in made.stderr  # the file does not say its alpha
        hashes.add(records(made)[0]["frames_sha256"])
    assert len(hashes) == 1 and plain["frames_sha256"] not in hashes
    used = json.loads(probe("none.mp4").comment)["loras"][0]
    assert used["name"] == "style.safetensors" and used["weight"] == 0.5 and len(used["sha256"]) == 64
    again = sample("--like", "none.mp4", "-o", "again.mp4")
    assert again.exit_code == 2 and "--lora" in again.stderr
    assert sample(PROMPT, "--lora", "style.safetensors:much").exit_code == 2
    assert sample(PROMPT, "--lora", "nothing.safetensors").exit_code == 3


class TestEmbedded:
    @pytest.fixture
    def embedded(self, monkeypatch, model_folder, tmp_path):
        """Let a random model stand for the embedded one."""
        from cogvx import presets

        folder = tmp_path.parent / f"{tmp_path.name}-embedded"
        folder.mkdir()
        (folder / "tiny").symlink_to(model_folder("5b"))
        monkeypatch.setattr(presets, "EMBEDDED", folder)

    def test_is_the_default_and_needs_no_network(self, cogvx, embedded):
        result = cogvx("sample", "a red star over a green field", "--steps", 1, "--frames", 1, "--json", "-o", "a.mp4")
        assert result.exit_code == 0 and result.stderr == ""
        assert records(result)[0]["model"] == "tiny"
        again = cogvx("sample", "--like", "a.mp4", "--json", "-o", "b.mp4")
        assert records(again)[0]["frames_sha256"] == records(result)[0]["frames_sha256"]

    def test_says_in_one_line_what_it_does_not_know(self, cogvx, embedded, tmp_path):
        result = cogvx("sample", "a dragon", "--steps", 1, "--frames", 1, "-o", "a.mp4")
        assert result.exit_code == 0 and (tmp_path / "a.mp4").exists()
        (line,) = result.stderr.splitlines()
        assert "not: dragon;" in line and "--model 5b" in line and "simple drawn scenes" in line

    def test_a_build_without_it_says_so(self, cogvx, monkeypatch, tmp_path):
        from cogvx import presets

        monkeypatch.setattr(presets, "EMBEDDED", tmp_path)
        result = cogvx("sample", PROMPT)
        assert result.exit_code == 4 and "no embedded model tiny" in result.stderr


def test_frames_are_not_blank(sample):
    """The random model paints noise; a constant picture would mean that its output is lost on the way."""
    sample(PROMPT, "-o", "a.mkv")
    assert np.std(read_clip("a.mkv").frames) > 5
