"""Whether the weights in a checkpoint's files are a model's: both read by the safetensors package.

usage: read_checkpoint.py CHECKPOINT MODEL_DIRECTORY
"""

import glob
import sys

import torch
from safetensors.torch import load_file

checkpoint, model = sys.argv[1:]
whole, parts = {}, {}
files = glob.glob(f"{checkpoint}/tensors_rank_*.safetensors")
for path in files:
    for name, tensor in load_file(path).items():
        name, _, first = name.partition("@")
        if first:
            assert tensor.dim() == 1, (name, tensor.shape)
            parts.setdefault(name, []).append((int(first), tensor))
        else:
            whole[name] = tensor
for name, found in parts.items():
    assert name not in whole, name
    found.sort(key=lambda part: part[0])
    assert [first for first, _ in found] == [sum(len(t) for _, t in found[:i]) for i in range(len(found))], name
    whole[name] = torch.cat([tensor for _, tensor in found])
weights = load_file(f"{model}/model.safetensors")
for name, weight in weights.items():
    assert torch.equal(whole[name].flatten(), weight.flatten()), name
print(f"{len(weights)} weights are equal in {len(files)} files, {len(parts)} tensors in parts")
