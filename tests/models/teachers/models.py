"""Small random CLIP models with whole tokenizers, saved to folders; made without network or real vocabulary."""

import json
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch

VOCABULARY = 49408


def byte_alphabet() -> list[str]:
    """The 256 characters that stand for bytes in a byte-pair vocabulary, in its order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]


@cache
def stand_in_merges() -> tuple[tuple[str, str], ...]:
    """As many merges as CLIP has, of rare bytes but for those that make "a photo of a cat" what it is in CLIP."""
    fixed = {0: ("p", "h"), 1: ("ph", "o"), 2: ("pho", "t"), 3: ("c", "a"), 27: ("o", "f</w>")}
    fixed |= {613: ("phot", "o</w>"), 1856: ("ca", "t</w>")}
    rare = byte_alphabet()[94:]
    pairs = [(a, b) for a, b in product(rare, rare)]
    pairs += [(a, b + "</w>") for a, b in product(rare, rare)]
    filler = iter(pairs)
    return tuple(fixed.get(index) or next(filler) for index in range(VOCABULARY - 512 - 2))


def vocabulary_of(merges: tuple[tuple[str, str], ...]) -> dict[str, int]:
    """Token -> id, laid out as CLIP's: bytes, bytes that end a word, merges, the two marks."""
    alphabet = byte_alphabet()
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *(a + b for a, b in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: index for index, token in enumerate(tokens)}


def write_tokenizer(folder: Path, merges: tuple[tuple[str, str], ...] | None = None) -> None:
    """vocab.json and merges.txt, as OpenAI's repositories have them."""
    merges = merges or stand_in_merges()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary_of(merges)), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")


def write_byte_tokenizer(folder: Path) -> None:
    """A tokenizer of 256 bytes and four marks that ends texts as Gemma's does in SigLIP 2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", *letters])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder)


def write_unigram_tokenizer(folder: Path, known: tuple[str, ...]) -> int:
    """A tokenizer of the kind of XLM-V's, with these entries and all letters; returns how many tokens it knows."""
    from transformers import XLMRobertaTokenizer

    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    pieces = ["▁", *(f"▁{name}" for name in known), *letters]
    marks = [(mark, 0.0) for mark in ("<s>", "<pad>", "</s>", "<unk>")]
    vocabulary = [*marks, *((piece, -1.0 - index / 99) for index, piece in enumerate(pieces)), ("<mask>", 0.0)]
    XLMRobertaTokenizer(vocab=vocabulary).save_pretrained(folder)
    return len(vocabulary)


def clip_config(
    width: int = 32,
    depth: int = 2,
    heads: int = 4,
    patch: int = 8,
    image: int = 32,
    dims: int = 24,
    activation: str = "quick_gelu",
) -> Any:
    from transformers import CLIPConfig

    text: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    text |= {"vocab_size": VOCABULARY, "projection_dim": dims, "hidden_act": activation}
    text |= {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    vision = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": depth}
    vision |= {"num_attention_heads": heads, "patch_size": patch, "image_size": image, "projection_dim": dims}
    return CLIPConfig(text_config=text, vision_config=vision | {"hidden_act": activation}, projection_dim=dims)


def random_clip(seed: int = 0, **shape: Any) -> Any:
    """A CLIPModel with weights large enough that no part of it can be left out unnoticed."""
    from transformers import CLIPModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIPModel(clip_config(**shape)).eval()
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:  # biases and norms start at 0 and 1
                parameter.data += 0.3 * torch.randn_like(parameter)
            elif "embedding" in name:
                parameter.data = torch.randn_like(parameter)
            else:
                parameter.data = torch.randn_like(parameter) / parameter[0].numel() ** 0.5 * 1.5
    return model


def write_clip(folder: Path, seed: int = 0, merges: tuple[tuple[str, str], ...] | None = None, **shape: Any) -> Any:
    """Save a random CLIP and a tokenizer to a folder; returns the model."""
    model = random_clip(seed, **shape)
    model.save_pretrained(folder)
    write_tokenizer(folder, merges)
    return model
