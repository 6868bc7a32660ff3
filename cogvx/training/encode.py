"""Latents and text embeddings ahead of training, kept by content so that every run and process shares them."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from cogvx.data.buckets import Media, Shape
from cogvx.data.cache import EncodedCache, content_sha256
from cogvx.data.clips import media_of, read_clip
from cogvx.data.latents import latents_info, save_latents
from cogvx.data.manifest import Entry, Manifest, entry_id
from cogvx.data.paths import absolute
from cogvx.data.selection import Selection, pixel_field
from cogvx.data.share import Job, share
from cogvx.data.tensor_file import tensor_metadata
from cogvx.data.text_embeds import FORMAT as TEXT_FORMAT
from cogvx.data.text_embeds import save_text_embeds
from cogvx.data.video import to_video
from cogvx.errors import CogvxError, InputError, RefusedError, UsageError
from cogvx.files import clean
from cogvx.training.conditioning import noise_image
from cogvx.training.encoders import Encoders
from cogvx.training.recipe import DiffusionOptions


@dataclass(frozen=True)
class EncodeOptions:
    """What to encode.

    Attributes:
        selection: Which entries, at which shapes.
        model: What the model is called.
        latents: Whether to encode clips.
        text: Whether to encode captions, and the empty prompt.
        captions: Which captions: "caption", and names in "captions".
        first_frames: How many noisy versions of each first frame to encode, for image-to-video training.
        num_workers: Threads that read clips ahead.
        overwrite: Whether what is there is encoded anew.
        max_bad: Entries that may be unusable (default: any number).
    """

    selection: Selection
    model: str
    latents: bool = True
    text: bool = True
    captions: tuple[str, ...] = ("caption",)
    first_frames: int = 0
    num_workers: int = 1
    overwrite: bool = False
    max_bad: int | None = None


@dataclass(frozen=True)
class Plan:
    """How one entry is encoded.

    Attributes:
        entry: What the manifest says.
        source: Its file.
        media: What the file is.
        shape: Size, and the longest length.
        sha256: Of the file.
        latents: Where its latents go.
        first_frames: Where those of its first frame go; None if not wanted.
    """

    entry: Entry
    source: Path
    media: Media
    shape: Shape
    sha256: str
    latents: Path
    first_frames: Path | None


@dataclass
class EncodeResult:
    """What a run has done.

    Attributes:
        entries: Entries of the manifest, with what was made, in its order; their paths are absolute.
        written: Files that were made.
        kept: Files that were there already, or that another process has made.
        bad: Name and error of each entry that could not be used.
        left_out: Reason to number of entries that are not wanted.
    """

    entries: list[Entry] = field(default_factory=list)
    written: int = 0
    kept: int = 0
    bad: list[tuple[str, CogvxError]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


class ManifestEncoder:
    """Encodes the clips and captions of one manifest."""

    def __init__(
        self,
        manifest: Manifest,
        cache: EncodedCache,
        options: EncodeOptions,
        *,
        on_bad: Callable[[str, CogvxError], None] = lambda name, error: None,
    ) -> None:
        """Choose the entries.

        Args:
            manifest: What to encode.
            cache: Where it is kept.
            options: What to encode.
            on_bad: Told of each entry that cannot be used.
        """
        options.selection.check()
        self.manifest, self.cache, self.options = manifest, cache, options
        self.result = EncodeResult()
        self._on_bad = on_bad
        self._failed: set[int] = set()
        self._entries: list[Entry] = []
        for entry in manifest.entries:
            why = options.selection.refused(entry)
            if why is None:
                self._entries.append(entry)
            else:
                self.result.left_out[why] += 1

    def plans(self) -> Iterator[tuple[int, Plan]]:
        """Yield the number and the plan of each clip, found as they are taken; those that have none are noted."""
        for number, entry in enumerate(self._entries):
            if number in self._failed:
                continue
            try:
                yield number, self._plan(entry)
            except (InputError, RefusedError, UsageError) as error:
                self._fail(number, error)

    def prompts(self) -> dict[str, list[int]]:
        """Return each prompt that is to be embedded, the empty one among them, and which entries have it."""
        found: dict[str, list[int]] = {"": []}
        for number, entry in enumerate(self._entries):
            for prompt in self._captions(entry).values():
                found.setdefault(prompt, []).append(number)
        return found

    def run(
        self, encoders: Encoders, *, report: Callable[[str, int, int], None] = lambda stage, done, total: None
    ) -> EncodeResult:
        """Encode what is missing, and return what there is then.

        Args:
            encoders: The models.
            report: Told the stage, and how many of how many are done.

        Raises:
            InputError: More entries cannot be used than allowed.
            MissingError: The disk is full.
        """
        self.cache.sweep()
        if self.options.text and self._entries:
            prompts = self.prompts()
            owners = list(prompts.values())
            for done, (job, outcome) in enumerate(self._share(self._text_jobs(encoders, list(prompts))), start=1):
                for number in owners[job.owner] if isinstance(outcome, CogvxError) else ():
                    self._fail(number, outcome)
                report("caption", done, len(prompts))
            encoders.release_text()
        plans: dict[int, Plan] = {}
        if self.options.latents:
            seen: set[int] = set()
            for job, outcome in self._share(self._clip_jobs(encoders, plans)):
                if isinstance(outcome, CogvxError):
                    self._fail(job.owner, outcome)
                seen.add(job.owner)
                report("clip", len(seen | self._failed), len(self._entries))
        for number, entry in enumerate(self._entries):
            if number not in self._failed:
                self.result.entries.append(self._described(entry, plans.get(number)))
        return self.result

    def _plan(self, entry: Entry) -> Plan:
        named = pixel_field(entry)
        if named is None:
            raise InputError(f"an entry names neither 'video' nor 'image' (it has {', '.join(entry)})")
        source = self.manifest.path(entry, named)
        if not source.exists():
            raise InputError(f"cannot read {clean(str(source))}: no such file")
        media = media_of(entry, source)
        shape = self.options.selection.fit(media)
        if isinstance(shape, str):
            raise InputError(f"{entry[named]}: {media.width}x{media.height}, {media.duration:.2f} s: {shape}")
        # What the manifest says a file is names it; the file itself is compared when it is encoded.
        sha256 = entry["sha256"].lower() if "sha256" in entry else content_sha256(source)
        start, end = entry.get("start"), entry.get("end")
        latents = self.cache.latents(sha256, shape, fps=self.options.selection.fps, start=start, end=end)
        count = self.options.first_frames
        first = self.cache.first_frames(sha256, shape, count=count, start=start) if count else None
        return Plan(entry, source, media, shape, sha256, latents, first)

    def _share(self, jobs: Iterator[Job]) -> Iterator[tuple[Job, object]]:
        for job, outcome in share(jobs, num_workers=self.options.num_workers, overwrite=self.options.overwrite):
            self.result.written += outcome == "written"
            self.result.kept += outcome == "kept"
            yield job, outcome

    def _text_jobs(self, encoders: Encoders, prompts: list[str]) -> Iterator[Job]:
        for number, prompt in enumerate(prompts):
            path = self.cache.text(prompt)

            def make(prompt: str, path: Path = path) -> None:
                save_text_embeds(path, encoders.embed(prompt), prompt=prompt, model=self.options.model, overwrite=True)

            yield Job(path, _check_text, lambda prompt=prompt: prompt, make, number)  # type: ignore[misc]

    def _clip_jobs(self, encoders: Encoders, plans: dict[int, Plan]) -> Iterator[Job]:
        for number, plan in self.plans():
            plans[number] = plan

            def read(plan: Plan = plan) -> Tensor:
                return self._read(plan, plan.shape.num_frames)

            def make(video: Tensor, plan: Plan = plan) -> None:
                self._save(plan.latents, plan, *encoders.posterior(video), num_frames=video.shape[1])

            yield Job(plan.latents, latents_info, read, make, number)
            if plan.first_frames is not None:

                def read_first(plan: Plan = plan) -> Tensor:
                    return self._read(plan, 1)

                def make_first(image: Tensor, plan: Plan = plan, path: Path = plan.first_frames) -> None:
                    source = torch.Generator().manual_seed(int(path.stem[:15], 16))
                    noise = DiffusionOptions()  # the official strength
                    noisy = [
                        noise_image(image, mean=noise.image_noise_mean, std=noise.image_noise_std, generator=source)
                        for _ in range(self.options.first_frames)
                    ]
                    made = [encoders.posterior(frame) for frame in noisy]
                    means, stds = (torch.cat(part, dim=1) for part in zip(*made, strict=True))
                    self._save(path, plan, means, stds, num_frames=1)

                yield Job(plan.first_frames, latents_info, read_first, make_first, number)

    def _read(self, plan: Plan, num_frames: int) -> Tensor:
        """Return a clip as the encoder takes it: (3 t h w) in [-1, 1]."""
        if "sha256" in plan.entry and content_sha256(plan.source) != plan.sha256:
            raise InputError(f"{clean(str(plan.source))}: its sha256 differs from that in the manifest: it has changed")
        frames = read_clip(
            plan.source,
            num_frames=num_frames,
            fps=self.options.selection.fps,
            height=plan.shape.height,
            width=plan.shape.width,
            start=plan.entry.get("start"),
            end=plan.entry.get("end"),
        )
        return to_video(frames)

    def _save(self, path: Path, plan: Plan, mean: Tensor, std: Tensor, *, num_frames: int) -> None:
        save_latents(
            path,
            mean,
            model=self.options.model,
            fps=self.options.selection.fps,
            num_frames=num_frames,
            height=plan.shape.height,
            width=plan.shape.width,
            source=plan.source.name,
            std=std,
            more={"source_sha256": plan.sha256, "vae": self.cache.vae},
            overwrite=True,
        )

    def _captions(self, entry: Entry) -> dict[str, str]:
        texts = dict(entry.get("captions", {}))
        if "caption" in entry:
            texts["caption"] = entry["caption"]
        return {name: texts[name] for name in self.options.captions if name in texts}

    def _fail(self, number: int, error: object) -> None:
        """Note a bad entry; raise an InputError if it is one too many."""
        if number in self._failed or not isinstance(error, CogvxError):
            return
        self._failed.add(number)
        name = _name(self._entries[number])
        self.result.bad.append((name, error))
        self._on_bad(name, error)
        most = self.options.max_bad
        if most is not None and len(self.result.bad) > most:
            raise InputError(f"{len(self.result.bad)} entries could not be used, more than the {most} allowed")

    def _described(self, entry: Entry, plan: Plan | None) -> Entry:
        """Return an entry with what was made of it; its paths are absolute."""
        row = dict(entry)
        for name in ("video", "image", "latents", "text"):
            if name in entry:
                row[name] = absolute(self.manifest.path(entry, name))
        if self.options.text:
            prompts = {"": "", **self._captions(entry)}  # the empty one stands for captions that are dropped
            texts = {name: absolute(self.cache.text(prompt)) for name, prompt in prompts.items()}
            if "caption" in texts:
                row["text"] = texts["caption"]
            row["texts"] = texts
        if plan is None:
            return row
        row |= {"sha256": plan.sha256, "latents": absolute(plan.latents)}
        if plan.first_frames is not None:
            row["image_latents"] = absolute(plan.first_frames)
        fps, num_frames = self.options.selection.fps, latents_info(plan.latents).num_frames
        row["encoded"] = {"num_frames": num_frames, "height": plan.shape.height, "width": plan.shape.width}
        row["encoded"] |= {"fps": fps, "vae": self.cache.vae}
        row |= {"width": plan.media.width, "height": plan.media.height}
        whole = entry.get("start") is None and entry.get("end") is None
        if not plan.media.still:
            row["fps"] = plan.media.fps
            row |= {"duration": plan.media.duration} if whole else {}
        if num_frames < plan.shape.num_frames:  # the file ends before its header says, and training must plan with that
            row["end" if not whole else "duration"] = (entry.get("start") or 0.0) + num_frames / fps
        return row


def _check_text(path: Path) -> object:
    return tensor_metadata(path, form=TEXT_FORMAT)


def _name(entry: Entry) -> str:
    try:
        return clean(entry_id(entry))
    except InputError:
        return "an entry"
