"""Which of Keras' objects are looked into for a script's state, and which attributes of them are Keras' own.

A layer, a metric or an optimizer may be a class of the script's, or be held by it beside the model: what it has of its own
is state. What Keras hangs onto it for itself is not, some of it by the addresses of objects in this process.
"""

from __future__ import annotations

from typing import Any, Final

import keras

from backprop_core.script_state.attributes import classes_of

_OF_OPERATIONS: Final = {
    "_inbound_nodes", "_outbound_nodes", "_remat_mode", "_auto_config", "_lock", "_tracker", "_dtype_policy", "name",
    "_dtype",
}  # fmt: skip
_OF_TENSORFLOW: Final = {
    "_saved_model_arg_spec", "_saved_model_inputs_spec", "_self_name_based_restores", "_self_saveable_object_factories",
    "_self_setattr_tracking", "_self_unconditional_checkpoint_dependencies",
    "_self_unconditional_deferred_dependencies",
    "_self_unconditional_dependency_names", "_self_update_uid", "_tracked", "_distribute_strategy",
    "_distribution_strategy",
    "_distributed_dataset", "_distribute_reduction_method",
}  # fmt: skip
_OF_TORCH: Final = {
    "_backward_hooks", "_backward_pre_hooks", "_buffers", "_forward_hooks", "_forward_hooks_always_called",
    "_forward_hooks_with_kwargs", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_is_full_backward_hook",
    "_load_state_dict_post_hooks", "_load_state_dict_pre_hooks", "_non_persistent_buffers_set", "_parameters",
    "_state_dict_hooks", "_state_dict_pre_hooks", "_torch_params", "training", "_compiled_call_impl",
}  # fmt: skip
_OF_LAYERS: Final = {
    "_allow_non_tensor_positional_args", "_build_shapes_dict", "_call_context_args", "_call_has_context_arg",
    "_call_has_mask_arg", "_call_has_training_arg", "_call_signature", "_called", "_convert_input_args", "_input_spec",
    "_loss_ids", "_losses", "_losses_override", "_metrics", "_non_trainable_variables", "_parent_path", "_path",
    "_seed_generators", "_supports_masking", "_trainable_variables", "autocast", "build", "built",
    "call_signature_parameters", "quantize", "quantization_config", "supports_jit",
}  # fmt: skip
_OF_MODELS: Final = {
    "_compile_config", "_compile_loss", "_compiled_trainable_state", "_compute_loss_has_training_arg",
    "_eval_epoch_iterator", "_functional", "_initial_epoch", "_inputs", "_inputs_struct", "_jax_state",
    "_jax_state_synced", "_jit_compile",
    "_loss_tracker", "_manual_input_spec", "_nnx_op_mapping", "_nodes", "_nodes_by_depth", "_operations",
    "_operations_by_depth", "_outputs", "_outputs_struct", "_run_eagerly", "_should_eval", "compiled", "history",
    "nnx_operations", "output_names", "predict_function", "steps_per_execution", "stop_evaluating", "stop_predicting",
    "stop_training", "test_function", "train_function", "unrolled_steps_per_execution",
}  # fmt: skip
_LAYER: Final = frozenset(_OF_OPERATIONS | _OF_TENSORFLOW | _OF_TORCH | _OF_LAYERS)
_MODEL: Final = _LAYER | _OF_MODELS
_HOLDER: Final = frozenset(
    _OF_OPERATIONS | _OF_TENSORFLOW
    | {"_variables", "_trainable_variables", "_trainable_variables_indices", "built", "_metrics"}
)  # fmt: skip
_OPTIMIZER: Final = _HOLDER | {
    "_accumulated_gradients", "_accumulated_grads", "_accumulated_delta_vars", "_accumulators", "_linears",
    "_average_gradients", "_c", "_exclude_from_weight_decay_cache", "_m", "_model_variables_moving_average",
    "_momentums", "_optimizer_map", "_r", "_u", "_v", "_var_to_optimizer_idx", "_velocities", "_velocity_hats",
    "_iterations", "_u_product",
    "_inner_optimizers", "_loss_scale_factor",
}  # fmt: skip
_COMPILED_METRICS: Final = _HOLDER | {
    "_flat_metrics",
    "_flat_weighted_metrics",
    "_user_metrics_structure",
    "output_names",
}
_CALLBACK: Final = frozenset({"_model", "params", "validation_data"})
_DATASET: Final = frozenset({"_workers", "_use_multiprocessing", "_max_queue_size"})
_COLLECTION: Final = frozenset({"tracker"})
_VARIABLE: Final = frozenset(
    {"_aggregation", "_autocast", "_constraint", "_dtype", "_initializer", "_layout", "_name", "_ndim", "_path",
     "_regularizer", "_overwrite_with_gradient", "_shape", "_synchronization", "_trainable", *_OF_TENSORFLOW}
)  # fmt: skip
_GENERATOR: Final = frozenset({"_initial_seed", "backend", "name", "_tracker"})

_BY_CLASS: Final[tuple[tuple[Any, frozenset[str]], ...]] = (
    (keras.Variable, _VARIABLE),
    (keras.random.SeedGenerator, _GENERATOR),
    (keras.Model, _MODEL),
    (keras.Layer, _LAYER),
    (keras.optimizers.Optimizer, _OPTIMIZER),
    ((keras.metrics.Metric, keras.losses.Loss), _HOLDER),
    (keras.optimizers.schedules.LearningRateSchedule, frozenset()),
    ((keras.callbacks.LambdaCallback, keras.callbacks.LearningRateScheduler), _CALLBACK),
    (keras.utils.PyDataset, _DATASET),
)


def script_parts(kind: type) -> frozenset[str] | None:
    """What of such an object is Keras' own; None for all that is not looked into, or no object of Keras'."""
    if not any(one.__module__.startswith("keras.") for one in classes_of(kind)):
        return None
    if kind.__name__ == "CompileMetrics" and kind.__module__.startswith("keras."):
        return _COMPILED_METRICS
    if kind.__module__ == "keras.src.utils.tracking" and issubclass(kind, list | dict | set):
        return _COLLECTION
    return next((parts for of, parts in _BY_CLASS if issubclass(kind, of)), None)


def stored_variables(owner: Any) -> set[int] | None:
    """The variables of a layer, an optimizer or a metric, and what they hold now, by identity; None for anything else."""
    if not isinstance(owner, keras.Layer | keras.optimizers.Optimizer | keras.metrics.Metric):
        return None
    own = [*owner.variables, *(owner.metrics_variables if isinstance(owner, keras.Model) else ())]
    return {id(one) for one in own} | {
        id(held) for one in own if (held := getattr(one, "_value", None)) is not None
    }
