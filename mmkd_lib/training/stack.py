"""S copies of one module as one: parameters and buffers with a leading seed axis, run by `torch.func.vmap`.

A single module skips vmap; modules that say `vmappable = False` (recurrent networks, graphs, indexing by masks) run one
after the other.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..methods.steps import Clock, Step


class _Call(nn.Module):
    """Lets `functional_call`, which knows `forward` only, reach any method of a module."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, name, args, how):
        return getattr(self.module, name)(*args, **how)


class Stack:
    """S modules of one shape. Tensors in arguments and results (in named tuples, dicts, lists and tuples) carry the
    leading axis S; whatever else is in them is the same for all.

    Methods change buffers in place only: what they change is that of their seed.
    """

    def __init__(self, modules):
        self.size, self.vmappable = len(modules), getattr(modules[0], "vmappable", True)
        self.unit = getattr(modules[0], "unit", "utterance")
        self.parameters, self.buffers = torch.func.stack_module_state([_Call(module) for module in modules])
        self.base = _Call(copy.deepcopy(modules[0]))

    def mode(self, training):
        """Set training or evaluation mode; returns the stack."""
        self.base.train(training)
        return self

    def forward(self, batch):
        """`module(batch)` of every seed: an `Output` of tensors (S, B, ...)."""
        return self("forward", batch)

    def losses(self, kind, step: Step, clock: Clock):
        """The loss terms (S, ...) of a step; kind: losses, plain_losses or oracle_losses. Returns (terms, what
        `after_step` is to know)."""
        found = self(kind, step, clock=clock)
        return found if isinstance(found, tuple) else (found, {})

    @torch.no_grad()
    def after_step(self, step: Step, kept, clock: Clock):
        """`module.after_step` of every seed."""
        self("after_step", step, kept, clock=clock)

    def __call__(self, name, *args, **how):
        """`module.name(*args, **how)` of every seed."""

        def one(parameters, buffers, args):
            found = torch.func.functional_call(self.base, (parameters, buffers), (name, args, how))
            return {} if found is None else found  # what changes buffers only returns nothing, which vmap refuses

        everything = self.parameters, self.buffers, args
        if self.size == 1 or not self.vmappable:
            found = [one(*_each(lambda t, s=s: t[s], everything)) for s in range(self.size)]
            return _each(lambda t: t.unsqueeze(0), found[0]) if self.size == 1 else _stacked(found)
        axes = _axes(everything)
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no batching rule everywhere
            return torch.vmap(one, in_dims=axes, randomness="different")(*everything)

    def only(self, s):
        """The stack of one of the seeds, on the same memory."""
        other = copy.copy(self)
        other.size = 1
        other.parameters, other.buffers = _each(lambda t: t[s : s + 1], (self.parameters, self.buffers))
        return other

    def state(self):
        """A detached copy of all parameters and buffers, name -> (S, ...)."""
        return {name: tensor.detach().clone() for name, tensor in (self.parameters | self.buffers).items()}

    def unstacked(self, state):
        """The S state dicts of a stacked state, as the module itself gives them: without buffers that are not kept."""
        first = {id(t): name for name, t in [*self.base.named_parameters(), *self.base.named_buffers()]}  # tied: once
        names = {name: first[id(t)] for name, t in self.base.module.state_dict(keep_vars=True).items()}
        return [{name: state[named][s] for name, named in names.items()} for s in range(self.size)]


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


def _axes(tree):
    """For vmap: 0 in the place of every tensor, None in that of everything else."""
    if isinstance(tree, dict):
        return {key: _axes(value) for key, value in tree.items()}
    if hasattr(tree, "_fields"):
        return type(tree)(*map(_axes, tree))
    if isinstance(tree, (tuple, list)):
        return type(tree)(map(_axes, tree))
    return 0 if isinstance(tree, Tensor) else None


def _stacked(trees):
    """One tree of tensors (S, ...) from the trees of S seeds."""
    first = trees[0]
    if isinstance(first, Tensor):
        return torch.stack(trees)
    if isinstance(first, dict):
        return {key: _stacked([tree[key] for tree in trees]) for key in first}
    if first is None:
        return None
    parts = [_stacked(part) for part in zip(*trees, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
