"""gradcheck and opcheck of torch.ops.lorikeet.merged_ffn as Python sees it: merged_ffn_check.py liblorikeet_ops.so"""
import sys

import torch

torch.ops.load_library(sys.argv[1])
op = torch.ops.lorikeet.merged_ffn


def arguments(lengths, D, F, E, dtype=torch.double):
    torch.manual_seed(0)
    offsets = [0]
    for n in lengths:
        offsets.append(offsets[-1] + n)
    leaf = lambda *shape: torch.randn(*shape, dtype=dtype, requires_grad=True)
    routing_dtype = torch.double if dtype == torch.double else torch.float
    routing = torch.softmax(torch.randn(len(lengths), E, dtype=routing_dtype), -1).requires_grad_()
    return leaf(offsets[-1], D), offsets, routing, leaf(E, F, D), leaf(E, F, D), leaf(E, D, F)


for shape in (([3, 3], 4, 5, 3), ([1, 0, 4, 2], 3, 4, 2), ([5], 4, 3, 1)):
    assert torch.autograd.gradcheck(op, arguments(*shape)), shape
    print("gradcheck passes:", shape)
for dtype in (torch.double, torch.float, torch.bfloat16):
    results = torch.library.opcheck(op, arguments([3, 0, 4], 8, 8, 2, dtype))
    assert all(r == "SUCCESS" for r in results.values()), results
    print("opcheck passes:", dtype, sorted(results))
with torch.no_grad():
    assert op(*arguments([3, 3], 4, 5, 3)).grad_fn is None
