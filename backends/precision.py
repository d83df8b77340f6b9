"""What every adapter does alike before a matched model computes on a GPU."""

from __future__ import annotations

from typing import Any

from rnn_crosscheck.harness.adapter import Late

jax: Any = Late("jax")
tf: Any = Late("tensorflow")
torch: Any = Late("torch")


def multiply_in_full(framework: str) -> None:
    """Keep a GPU from multiplying with the ten bits of mantissa of TF32, which are too few for parity.

    Parameters
    ----------
    framework
        ``jax``, ``tensorflow`` or ``torch``: what computes.
    """
    match framework:
        case "jax":
            jax.config.update("jax_default_matmul_precision", "highest")
        case "tensorflow":
            tf.config.experimental.enable_tensor_float_32_execution(False)
        case "torch":
            torch.backends.cudnn.allow_tf32 = False  # PyTorch's own products don't use it by default
        case _:
            raise ValueError(f"No such framework: {framework!r}.")
