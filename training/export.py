"""Write the trained weights and their tokenizer as a GGUF file that llama.cpp runs."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import quantize
from model import Shape, TinyLlama
from tokenizers import Tokenizer

NAME = "aitbc-starter"
DESCRIPTION = (
    "A stand-in: a very small language model trained only on questions and answers about AITBC, so that a "
    "first job runs with no download. Not a general assistant. Point the miner at Ollama or at a GGUF of "
    "your own for real answers."
)
END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def write_gguf(path: Path, model: TinyLlama, tokenizer: Tokenizer) -> None:
    """Q8_0 matrices, float32 norms, byte-level BPE, chat template; written beside `path`, then renamed."""
    shape = model.shape
    partial = path.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "llama")
    _write_metadata(writer, shape)
    _write_vocabulary(writer, tokenizer, shape)
    for name, weight in model.state_dict().items():
        values = weight.detach().numpy().astype(np.float32)
        if values.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(path)


def _write_metadata(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name(NAME)
    writer.add_description(DESCRIPTION)
    writer.add_license("MIT")
    writer.add_tags(["stand-in", "aitbc"])
    writer.add_languages(["en"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(shape.context_length)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_vocab_size(shape.vocab_size)
    writer.add_pooling_type(gguf.PoolingType.MEAN)


def _write_vocabulary(writer: gguf.GGUFWriter, tokenizer: Tokenizer, shape: Shape) -> None:
    tokens = [tokenizer.id_to_token(i) for i in range(shape.vocab_size)]
    special = {END_OF_TEXT, TURN_START, TURN_END}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if t in special else gguf.TokenType.NORMAL for t in tokens]
    )
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) if isinstance(pair, list) else pair for pair in merges])
    writer.add_bos_token_id(tokens.index(END_OF_TEXT))
    writer.add_eos_token_id(tokens.index(TURN_END))
    writer.add_pad_token_id(tokens.index(END_OF_TEXT))
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
