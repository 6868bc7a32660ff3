"""Language models that run in this process, through the transformers library; those that see images too."""

import contextlib
import io
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from cogvx.errors import CogvxError, InputError, MissingError, RefusedError, UsageError
from cogvx.files import clean
from cogvx.language.ask import Answer, LanguageSpec, Message, Video, in_words, without_thoughts
from cogvx.language.model_files import ModelFiles, find_files
from cogvx.language.video_inputs import conversation_inputs, converses, takes_video, video_inputs

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TransformersModel:
    """A loaded language model.

    Args:
        files: Where it came from.
        model: The network, in eval mode.
        reader: Its tokenizer, or the processor of a model that sees images.
        sees_images: Which of the two it is.
        timeout: Seconds that an answer may take.
    """

    concurrent = False

    def __init__(self, files: ModelFiles, model: Any, reader: Any, *, sees_images: bool, timeout: float) -> None:
        self._files = files
        self._model = model
        self._reader = reader
        self._tokenizer = getattr(reader, "tokenizer", reader)
        self._timeout = timeout
        self._lock = threading.Lock()  # a network has one cache of keys and values, and one generator
        self.sees_images = sees_images
        self.name = f"transformers:{files.name}@{files.version}"

    def settings(self) -> dict[str, Any]:
        """Return what decides the answers besides the question."""
        about = {"engine": "transformers", "model": self._files.name, "version": self._files.version}
        return about | {"dtype": str(self._model.dtype).removeprefix("torch."), "device": self._model.device.type}

    def ask(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        schema: dict[str, Any] | None = None,
    ) -> Answer:
        """Ask, and wait for the answer; see LanguageModel.ask."""
        if not self.sees_images and any(message.images or message.videos for message in messages):
            return Answer("", "error", f"{self.name} sees no images; name a model that does", fatal=True)
        with self._lock, torch.inference_mode():
            try:
                inputs = self._inputs(in_words(messages, schema))
            except CogvxError as error:
                return Answer("", "error", f"{self.name}: {error}")
            asked = inputs["input_ids"].shape[1]
            limit = self._context()
            if limit is not None and asked + max_tokens > limit:
                text = f"a question of {asked} tokens and an answer of {max_tokens} do not fit into its {limit}"
                return Answer("", "error", f"{self.name}: {text}", prompt_tokens=asked)
            made = self._generate(inputs, self._options(max_tokens, temperature, top_p), seed)[0, asked:]
        return self._answer(made, asked, max_tokens)

    def _answer(self, made: torch.Tensor, asked: int, max_tokens: int) -> Answer:
        about: dict[str, Any] = {"model": self._files.name, "prompt_tokens": asked, "completion_tokens": len(made)}
        text = without_thoughts(self._tokenizer.decode(made, skip_special_tokens=True))
        if len(made) and int(made[-1]) in self._ends():
            if text:
                return Answer(text, "success", **about)
            return Answer("", "error", f"{self.name}: its answer is empty", retry=True, **about)
        if len(made) < max_tokens:
            return Answer("", "error", f"{self.name}: no whole answer within {self._timeout:g} s", retry=True, **about)
        return Answer(text, "truncated", f"{self.name}: the answer was cut off at max_tokens", **about)

    def _generate(self, inputs: Any, options: Any, seed: int) -> torch.Tensor:
        device = self._model.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)  # generate() draws from the global generator, which is put back afterwards
            return self._model.generate(**inputs, generation_config=options)

    def _options(self, max_tokens: int, temperature: float, top_p: float) -> Any:
        from transformers import GenerationConfig

        ends = sorted(self._ends())
        pad = self._tokenizer.pad_token_id
        options = GenerationConfig(
            max_new_tokens=max_tokens,
            max_time=self._timeout,
            do_sample=temperature > 0,
            num_beams=1,
            eos_token_id=ends,
            pad_token_id=pad if pad is not None else ends[0] if ends else 0,
        )
        if temperature > 0:
            options.update(temperature=temperature, top_p=top_p, top_k=0)
        return options

    def _ends(self) -> set[int]:
        """The tokens that end an answer."""
        found: set[int] = set()
        generation = getattr(self._model, "generation_config", None)
        for value in (getattr(generation, "eos_token_id", None), self._tokenizer.eos_token_id):
            found |= set(value) if isinstance(value, list | tuple) else {value} - {None}  # type: ignore[arg-type]
        return {int(token) for token in found}

    def _context(self) -> int | None:
        """Tokens that the network can read, where its configuration says so."""
        config = self._model.config
        text = config.get_text_config() if hasattr(config, "get_text_config") else config
        return getattr(text, "max_position_embeddings", None)

    def _inputs(self, messages: Sequence[Message]) -> Any:
        """The tensors of a conversation.

        Raises:
            InputError: The model's template does not take it.
        """
        if converses(self._model):
            return conversation_inputs(self._model, self._tokenizer, messages)
        text = self._templated(messages)
        if not self.sees_images:
            return self._tokenizer(text, return_tensors="pt", add_special_tokens=False).to(self._model.device)
        from PIL import Image

        images = [Image.fromarray(image) for message in messages for image in message.images]
        videos = [video for message in messages for video in message.videos]
        if videos:
            return self._video_inputs(text, videos, images)
        read = self._reader(text=[text], images=images or None, return_tensors="pt", add_special_tokens=False)
        return read.to(self._model.device, dtype=self._model.dtype)

    def _video_inputs(self, text: str, videos: Sequence[Video], images: Sequence[Any]) -> Any:
        if not takes_video(self._model.config) or images:
            raise InputError("it takes no videos here, or none beside images; show it frames (--send frames)")
        found = video_inputs(
            text,
            videos,
            tokenizer=self._tokenizer,
            config=self._model.config,
            colours=self._reader.image_processor,
        )
        found["pixel_values_videos"] = found["pixel_values_videos"].to(self._model.dtype)
        return {name: tensor.to(self._model.device) for name, tensor in found.items()}

    def _templated(self, messages: Sequence[Message]) -> str:
        import jinja2

        for turns in (messages, _without_system(messages)):  # some templates know no system message
            said = [{"role": turn.role, "content": self._content(turn)} for turn in turns]
            try:
                return self._reader.apply_chat_template(said, add_generation_prompt=True, tokenize=False)
            except jinja2.TemplateError as error:
                reason = error
        raise InputError(f"its chat template does not take the conversation: {clean(str(reason))[:200]}")

    def _content(self, message: Message) -> Any:
        """What a template takes of a message, without the tokens that would end or change the conversation."""
        text = message.text
        for token in self._tokenizer.all_special_tokens:
            text = text.replace(token, " ")
        if not self.sees_images:
            return text
        seen = [{"type": "image"} for _ in message.images] + [{"type": "video"} for _ in message.videos]
        return [*seen, {"type": "text", "text": text}]


def open_transformers(spec: LanguageSpec, announce: Callable[[str], None]) -> TransformersModel:
    """Load a language model into this process; safetensors and GGUF only.

    Raises:
        UsageError: Nothing can be called so.
        InputError: Its files cannot be used, or it has no chat template.
        MissingError: It, a package or memory is missing.
        RefusedError: It is a pickle, or needs code that may not run.
    """
    if spec.dtype is not None and spec.dtype not in _DTYPES:
        raise UsageError(f"no such precision: {spec.dtype}; expected fp32, bf16 or fp16")
    files = find_files(spec, announce)
    dtype = _DTYPES[spec.dtype or ("fp32" if spec.device == "cpu" else "bf16")]
    if files.gguf is not None:
        _need("gguf")
        _need("accelerate")
    try:
        model, reader, sees_images = _load(files, dtype)
    except (CogvxError, MemoryError):
        raise
    except Exception as error:  # whatever the library throws at files that are not what they should be
        raise _explained(error, files) from error
    if not getattr(reader, "chat_template", None) and not converses(model):
        raise InputError(f"{files.name} has no chat template: it goes on with a text, but answers no questions")
    model = model.eval().requires_grad_(False).to(spec.device)
    sees_images = sees_images or converses(model)
    return TransformersModel(files, model, reader, sees_images=sees_images, timeout=spec.timeout)


def _load(files: ModelFiles, dtype: torch.dtype) -> tuple[Any, Any, bool]:
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as SEEING

    settings: dict[str, Any] = {"local_files_only": True, "trust_remote_code": files.trusted}
    config = files.config()
    architectures = config.get("architectures") or []
    sees_images = config.get("model_type") in SEEING and not str(architectures[:1]).endswith("ForCausalLM']")
    if sees_images:
        reader = _open_processor(files, settings)
        kind: Any = transformers.AutoModelForImageTextToText
    else:
        own = {"gguf_file": files.gguf} if files.gguf else {}
        reader = transformers.AutoTokenizer.from_pretrained(files.folder, **settings, **own)
        kind = transformers.AutoModelForCausalLM
        settings |= own
    if not files.gguf:
        settings["use_safetensors"] = True
    with _no_bars():
        return kind.from_pretrained(files.folder, dtype=dtype, **settings), reader, sees_images


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Keep the library from drawing its bars."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # the bar of GGUF files cannot be turned off
            yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _open_processor(files: ModelFiles, settings: dict[str, Any]) -> Any:
    """Open the processor of a model that sees images.

    Where torchvision is not installed, the part for videos cannot be made; the part for images is all that is used.
    """
    import transformers
    from transformers.utils import is_torchvision_available

    if is_torchvision_available():
        return transformers.AutoProcessor.from_pretrained(files.folder, **settings)
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    config = transformers.AutoConfig.from_pretrained(files.folder, **settings)
    known: Any = PROCESSOR_MAPPING.get(type(config), None)
    if known is None or "video_processor" not in known.get_attributes():
        return transformers.AutoProcessor.from_pretrained(files.folder, **settings)

    class ImagesOnly(known):  # type: ignore[misc, valid-type]
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            if argument is None:
                return type(None)
            return super().check_argument_for_proper_class(argument_name, argument)

    ImagesOnly.__name__ = known.__name__  # the class's name is what the library looks things up by
    tokenizer = transformers.AutoTokenizer.from_pretrained(files.folder, **settings)
    images = transformers.AutoImageProcessor.from_pretrained(files.folder, **settings)
    template = _chat_template(files) or getattr(tokenizer, "chat_template", None)
    return ImagesOnly(image_processor=images, tokenizer=tokenizer, video_processor=None, chat_template=template)


def _chat_template(files: ModelFiles) -> str | None:
    """The template that lies beside a processor, in its newer or its older form."""
    import json

    try:
        if (files.folder / "chat_template.jinja").is_file():
            return (files.folder / "chat_template.jinja").read_text(encoding="utf-8")
        if (files.folder / "chat_template.json").is_file():
            return json.loads((files.folder / "chat_template.json").read_bytes()).get("chat_template")
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{files.name}: its chat template cannot be read") from error
    return None


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """Put the system's text before the first thing that the user says."""
    if len(messages) < 2 or messages[0].role != "system":
        return list(messages)
    first, second, *rest = messages
    return [Message(second.role, f"{first.text}\n\n{second.text}", second.images), *rest]


def _need(package: str) -> None:
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise MissingError(f'GGUF files need the package {package}: pip install "cogvx[language]"')


def _explained(error: Exception, files: ModelFiles) -> CogvxError:
    text = clean(str(error)).strip()
    if "trust_remote_code" in text or "custom code" in text:
        return RefusedError(f"{files.name} needs code of its repository: pass --allow-remote-code and its commit")
    if isinstance(error, ImportError):
        found = re.search(r"`?pip install ([\w.-]+)`?", text)
        return MissingError(
            f"{files.name} needs a package{f': pip install {found[1]}' if found else f' ({text[:160]})'}"
        )
    if isinstance(error, RuntimeError) and "memory" in text:
        return MissingError(f"{files.name}: not enough memory to load it ({text[:120]})")
    folder = str(files.folder)
    return InputError(
        f"{files.name} cannot be loaded: {text.replace(folder, files.name)[:240] or type(error).__name__}"
    )
