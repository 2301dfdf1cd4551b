"""Whether per-patient gradients can be bounded in a network, before it is trained privately.

In: a network. Out: its trainable layers by name; a watch over one forward pass. Raises `InputError`
for layers that mix patients or are unknown, and for parameters that are shared, parametrised, or
used outside their own layer; names them. That a container of known layers does not mix patients by
code of its own cannot be read off; the self-test tries it.
"""

from torch import nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from helpers.core import errors
from helpers.privacy import layer_gradients

# Layers without parameters that treat each image by itself.
HARMLESS = {
    nn.Identity,
    nn.Mish,
    nn.ReLU,
    nn.GELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Tanh,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.Flatten,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.MaxPool3d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool3d,
}
_DO = "Change the network, or train it without privacy."


def trainable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers with trainable parameters by name, each of a type in
    `layer_gradients.RULES`.

    Raises:
        InputError: a layer whose gradients cannot be bounded for a unit: unknown or mixing patients
            (BatchNorm), with buffers, parametrised, sharing a parameter, frozen in part, or with
            parameters beside layers.
    """
    layers, owners = {}, {}
    for name, module in model.named_modules():
        direct = list(module.parameters(recurse=False))
        is_known = type(module) in layer_gradients.RULES
        if problem := _objection(module, direct, is_known):
            errors.refuse(
                "layers whose gradients can be bounded for each patient",
                f"{name or 'the network'} ({type(module).__name__}): {problem[0]}",
                problem[1],
            )
        trained = [p for p in direct if p.requires_grad]
        for parameter in trained:
            if (first := owners.setdefault(id(parameter), name)) != name:
                errors.refuse(
                    "each parameter in one layer", f"one shared by {first} and {name}", _DO
                )
        if trained:
            layers[name] = module
    if not layers:
        errors.refuse(
            "a parameter to train",
            "a network in which all are frozen",
            "Set requires_grad of some.",
        )
    return layers


def _objection(
    module: nn.Module, direct: list[nn.Parameter], is_known: bool
) -> tuple[str, str] | None:
    """Return why a module's gradients cannot be bounded, and what to do; None if they can."""
    if "BatchNorm" in type(module).__name__:
        return "it mixes the patients of a batch", "Replace BatchNorm by GroupNorm."
    if any(True for _ in module.buffers(recurse=False)):
        return (
            "a buffer, which may keep what it sees of patients",
            "Keep constants out of buffers, and nothing else.",
        )
    if type(module) is nn.Flatten and module.start_dim < 1:
        return "it mixes the patients of a batch", "Flatten from dimension 1."
    if parametrize.is_parametrized(module):
        return (
            "its weight is parametrised",
            "Remove the parametrisation (weight_norm, spectral_norm).",
        )
    if is_known:
        trained = sum(p.requires_grad for p in direct)
        if 0 < trained < len(direct):
            return (
                "only some of its parameters are frozen",
                "Freeze all of a layer's parameters, or none.",
            )
        problem = layer_gradients.RULES[type(module)].objection(module)
        return (problem, _DO) if problem and trained else None
    if any(p.requires_grad for p in direct):
        return (
            "parameters of its own",
            f"Known layers: {', '.join(t.__name__ for t in layer_gradients.RULES)}. {_DO}",
        )
    is_container = any(True for _ in module.children())
    if not is_container and type(module) not in HARMLESS:
        return (
            "unknown, it may mix patients",
            f"Use one of {', '.join(sorted(t.__name__ for t in HARMLESS))}.",
        )
    return None


class Watch(TorchFunctionMode):
    """Refuse a forward pass in which a parameter is used outside its own layer's call, e.g.

    By `functional`.
    """

    def __init__(self, layers: dict[str, nn.Module]) -> None:
        super().__init__()
        self._owners = {
            id(p): (name, part)
            for name, layer in layers.items()
            for part, p in layer.named_parameters()
        }
        self._inside, self._layers, self._handles = None, layers, []

    def __enter__(self) -> "Watch":
        for name, layer in self._layers.items():
            self._handles += [
                layer.register_forward_pre_hook(
                    lambda *_, name=name: setattr(self, "_inside", name)
                ),
                layer.register_forward_hook(lambda *_: setattr(self, "_inside", None)),
            ]
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        super().__exit__(*error)

    def __torch_function__(self, function, types, arguments=(), named=None):
        values = [*arguments, *(named or {}).values()]
        for value in values + [
            part for several in values if isinstance(several, (list, tuple)) for part in several
        ]:
            name, part = self._owners.get(id(value), (None, None))
            if (
                name is not None
                and name != self._inside
                and getattr(function, "__name__", "") != "__get__"
            ):
                errors.refuse(
                    f"{name}.{part} to be used by its own layer only",
                    f"a use in {self._inside or 'the forward pass'} by"
                    f" {getattr(function, '__name__', function)}",
                    _DO,
                )
        return function(*arguments, **(named or {}))
