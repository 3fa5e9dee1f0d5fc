"""gradcheck and opcheck of the merged operators as Python sees them: merged_ops_check.py liblorikeet_ops.so"""
import sys

import torch

torch.ops.load_library(sys.argv[1])
merged_ffn = torch.ops.lorikeet.merged_ffn
merged_linear = torch.ops.lorikeet.merged_linear


def leaf(*shape, dtype):
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


def segments(lengths, D, E, dtype):
    """x, offsets and routing."""
    torch.manual_seed(0)
    offsets = [0]
    for n in lengths:
        offsets.append(offsets[-1] + n)
    routing_dtype = torch.double if dtype == torch.double else torch.float
    routing = torch.softmax(torch.randn(len(lengths), E, dtype=routing_dtype), -1).requires_grad_()
    return leaf(offsets[-1], D, dtype=dtype), offsets, routing


def ffn_arguments(lengths, D, F, E, dtype=torch.double):
    shapes = ((E, F, D), (E, F, D), (E, D, F))
    return *segments(lengths, D, E, dtype), *(leaf(*shape, dtype=dtype) for shape in shapes)


def linear_arguments(lengths, I, O, E, dtype=torch.double):
    return *segments(lengths, I, E, dtype), leaf(E, O, I, dtype=dtype)


for op, arguments in ((merged_ffn, ffn_arguments), (merged_linear, linear_arguments)):
    for shape in (([3, 3], 4, 5, 3), ([1, 0, 4, 2], 3, 4, 2), ([5], 4, 3, 1)):
        assert torch.autograd.gradcheck(op, arguments(*shape)), shape
        print("gradcheck passes:", op, shape)
    for dtype in (torch.double, torch.float, torch.bfloat16):
        results = torch.library.opcheck(op, arguments([3, 0, 4], 8, 8, 2, dtype))
        assert all(r == "SUCCESS" for r in results.values()), results
        print("opcheck passes:", op, dtype, sorted(results))
    with torch.no_grad():
        assert op(*arguments([3, 3], 4, 5, 3)).grad_fn is None
