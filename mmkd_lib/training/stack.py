"""S copies of one module as one: parameters with a leading seed axis, run by `torch.func.vmap`; S = 1 skips vmap."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


class _Call(nn.Module):
    """Lets `functional_call`, which knows `forward` only, reach any method of a module."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, name, *args):
        return getattr(self.module, name)(*args)


class Stack:
    """`stack(name, *args)` calls `module.name(*args)` for each of S modules of one shape.

    Tensors in `args` (named tuples, dicts and tuples of them) carry the leading axis S, and so do the results.
    """

    def __init__(self, modules):
        self.size = len(modules)
        self.parameters, self.buffers = torch.func.stack_module_state([_Call(module) for module in modules])
        self.base = _Call(copy.deepcopy(modules[0]))

    def mode(self, training):
        self.base.train(training)
        return self

    def __call__(self, name, *args):
        def one(parameters, buffers, *args):
            return torch.func.functional_call(self.base, (parameters, buffers), (name, *args))

        if self.size > 1:
            with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no batching rule everywhere
                return torch.vmap(one, randomness="different")(self.parameters, self.buffers, *args)
        parameters, buffers, *args = _each(lambda t: t.squeeze(0), (self.parameters, self.buffers, *args))
        return _each(lambda t: t.unsqueeze(0), one(parameters, buffers, *args))

    def state(self):
        """A detached copy of all parameters, name -> (S, ...)."""
        return {name: p.detach().clone() for name, p in self.parameters.items()}

    def unstacked(self, state):
        """The S state dicts of a stacked state, in the names of the module itself."""
        return [{n.removeprefix("module."): t[s] for n, t in state.items()} for s in range(self.size)]


def _each(change, tree):
    """Apply `change` to every tensor in nested dicts, tuples, lists and named tuples."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, dict):
        return {key: _each(change, value) for key, value in tree.items()}
    if hasattr(tree, "_fields"):
        return type(tree)(*(_each(change, value) for value in tree))
    if isinstance(tree, (tuple, list)):
        return type(tree)(_each(change, value) for value in tree)
    return tree
