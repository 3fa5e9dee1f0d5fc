"""A BERT model directory of a few kilobytes with random weights: letters, digits and punctuation are its pieces."""

import json
import string

import torch
from safetensors.torch import save_file

WIDTH, FEATURES, LAYERS, HEADS, POSITIONS = 32, 64, 2, 4, 64


def make(folder, nan_piece=None):
    """@param nan_piece a piece whose embedding is not a number"""
    folder.mkdir(parents=True)
    letters = string.ascii_lowercase + string.digits
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters), *string.punctuation]
    (folder / "vocab.txt").write_text("".join(piece + "\n" for piece in pieces))
    (folder / "config.json").write_text(json.dumps({
        "model_type": "bert", "vocab_size": len(pieces), "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "intermediate_size": FEATURES, "max_position_embeddings": POSITIONS, "type_vocab_size": 2}))
    weights = {}
    chance = torch.Generator().manual_seed(1)

    def add(name, *shape):
        weights[name] = torch.randn(shape, generator=chance) / shape[-1] ** 0.5

    def linear(name, inputs, outputs):
        add(name + ".weight", outputs, inputs)
        add(name + ".bias", outputs)

    def norm(name):
        weights[name + ".LayerNorm.weight"] = torch.ones(WIDTH)
        weights[name + ".LayerNorm.bias"] = torch.zeros(WIDTH)

    add("embeddings.word_embeddings.weight", len(pieces), WIDTH)
    add("embeddings.position_embeddings.weight", POSITIONS, WIDTH)
    add("embeddings.token_type_embeddings.weight", 2, WIDTH)
    norm("embeddings")
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            linear(name + "attention.self." + part, WIDTH, WIDTH)
        linear(name + "attention.output.dense", WIDTH, WIDTH)
        norm(name + "attention.output")
        linear(name + "intermediate.dense", WIDTH, FEATURES)
        linear(name + "output.dense", FEATURES, WIDTH)
        norm(name + "output")
    if nan_piece is not None:
        weights["embeddings.word_embeddings.weight"][pieces.index(nan_piece)] = float("nan")
    save_file(weights, folder / "model.safetensors")
    return folder
