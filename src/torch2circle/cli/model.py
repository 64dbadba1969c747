"""From the words of the command line to an exported model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from ..methods import ExportedMethods
    from ..pipeline import ExportedModel

F = TypeVar("F", bound=Callable[..., Any])


def loading_options(command: F, several: bool = False) -> F:
    """The options that tell how to get a model and its example inputs; ``several``: ``--inputs`` may be repeated, for more samples."""
    file = click.Path(path_type=Path)
    more = " Repeat for more samples; the first one is exported." if several else ""
    raised = "Raise the weight scale of a channel whose bias does not fit int32, or stop."
    options = [
        click.option("--input", "shapes", multiple=True, metavar="[NAME=]1x3x224x224[:DTYPE]", help="Shape of an example input, filled "
                     "with fixed random numbers. Repeat for more inputs."),
        click.option("--inputs", "sample", type=file, metavar="FILE", multiple=several, help="Example inputs from a .npz, .npy or .pt "
                     f"file.{more}"),
        click.option("--state", type=file, metavar="FILE", help="state_dict to load into the model that package.module:factory makes: of "
                     "torch.save, safetensors, or an index.json of several."),
        click.option("--trust-pickle", is_flag=True, help="Run the code in a pickled model. Only for files you made yourself."),
        click.option("--custom-op", "custom_ops", multiple=True, metavar="NS::OP[=CODE]", help="Write this PyTorch operator as a custom "
                     "one, for which the application brings the kernel. Repeat for more."),
        click.option("--dynamic-batch", is_flag=True, help="Take any size of the first dimension of all inputs."),
        click.option("--dynamic-shape", "dynamic_shapes", multiple=True, metavar="NAME=DIM[:SYMBOL],...", help="Take any size of these "
                     "dimensions of an input; those with the same symbol vary together. Repeat for more inputs."),
        click.option("--static-shapes", is_flag=True, help="Fix the sizes that an ExportedProgram leaves open, too."),
        click.option("--specialize", is_flag=True, help="Fix branches that depend on the input to the example's."),
        click.option("--io-layout", type=click.Choice(["torch", "nhwc"]), default="torch", show_default=True, help="Dimension order "
                     "of inputs and outputs of rank 4."),
        click.option("--io-dtype", "io_dtypes", multiple=True, metavar="NAME=uint8|int8", help="Leave quantizing this input, or "
                     "dequantizing this output, to the caller. Repeat for more."),
        click.option("--bias-overflow", type=click.Choice(["raise", "error"]), default="raise", show_default=True, help=raised),
        click.option("--dynamic", type=click.Choice(["hybrid", "dequantize", "exact"]), default="hybrid", show_default=True, help="Layers "
                     "with activations quantized at run time: the runtime's kernels, float on int8 weights, or PyTorch's own rounding."),
        click.option("--weights", type=click.Choice(["stored", "float16"]), default="stored", show_default=True, help="Weights as the "
                     "model has them, or those of linear layers and convolutions in float16 (LiteRT)."),
        click.option("--prefer", type=click.Choice(["exact", "speed"]), default="exact", show_default=True, help="The model's integers, or "
                     "one weight scale a layer where onert's kernels for one a channel are slow; what that loses is said."),
        click.option("--recurrent", type=click.Choice(["fused", "unrolled"]), default="fused", show_default=True, help="Sequence "
                     "operators where the runtime has right ones, or every time step on its own."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def sampled_options(command: F) -> F:
    """``loading_options`` with any number of samples."""
    return loading_options(command, several=True)


def exported_model(model: str, stage: Callable[[str], None], **loading: Any) -> ExportedModel | ExportedMethods:
    shapes, sample, state, trust_pickle = (loading.pop(name) for name in ("shapes", "sample", "state", "trust_pickle"))
    if shapes and sample:
        raise click.UsageError("give --input or --inputs, not both")
    from ..loading import load
    from ..methods import export_many
    from ..pipeline import export as export_model

    args, kwargs = _example(shapes, sample)
    stage("load")
    loaded = load(model, trust_pickle=trust_pickle, state=state, mmap=True)
    io_dtypes = dict(_named(text) for text in loading.pop("io_dtypes"))
    named = (text.rpartition("=") for text in loading.pop("custom_ops"))
    custom_ops = {op or code: code for op, _, code in named}
    shapes_open = _open_shapes(loading["dynamic_batch"], loading.pop("dynamic_shapes"), loading.pop("static_shapes"))
    options = {"progress": stage, "io_dtypes": io_dtypes, "custom_ops": custom_ops, "dynamic_shapes": shapes_open, **loading}
    if not isinstance(loaded, Mapping):
        return export_model(loaded, args, kwargs, **options)
    if shapes or sample:
        raise click.UsageError(f"{model} gives several methods with their inputs; --input and --inputs are for one model")
    return export_many(loaded, **options)


def _open_shapes(batch: bool, texts: Sequence[str], static: bool) -> dict[str, dict[int, str]] | None:
    """``dynamic_shapes`` of an export from ``x=0:batch,2``."""
    if batch + bool(texts) + static > 1:
        raise click.UsageError("give one of --dynamic-batch, --dynamic-shape and --static-shapes")
    if not texts:
        return {} if static else None
    found: dict[str, dict[int, str]] = {}
    for text in texts:
        name, equals, dims = text.partition("=")
        parts = [re.fullmatch(r"(\d+)(?::([A-Za-z_]\w*))?", part) for part in dims.split(",")]
        if not equals or not all(parts):
            raise click.UsageError(f"--dynamic-shape takes NAME=DIM or NAME=DIM:SYMBOL, several dimensions by commas: {text}")
        found.setdefault(name, {}).update({int(part[1]): part[2] or f"{name}.{part[1]}" for part in parts if part})
    return found


def _named(text: str) -> tuple[str, str]:
    name, equals, value = text.rpartition("=")
    if not equals:
        raise click.UsageError(f"--io-dtype takes NAME=uint8 or NAME=int8: {text}")
    return name, value


def _example(shapes: Sequence[str], sample: Path | None) -> tuple[tuple[Any, ...] | None, dict[str, Any] | None]:
    from ..loading import load_inputs, parse_input

    if sample:
        return load_inputs(sample)
    if not shapes:
        return None, None
    parsed = [parse_input(text, seed=i) for i, text in enumerate(shapes)]
    return tuple(tensor for name, tensor in parsed if name is None), {name: tensor for name, tensor in parsed if name is not None}
