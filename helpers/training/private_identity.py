"""What identifies a private run: promise, data, start and declared parameters, never code.

In: a private arm, its network, declared parameters. Out: the identity, fit for JSON, as
`private_runs.begin` compares it.
"""

from torch import nn

from helpers.training import networks, private_step


def identity_of(
    arm: private_step.PrivateArm,
    model: nn.Module,
    parameters: dict,
    *,
    learning_rate: float,
    schedule: str,
    averaging: float,
    head_learning_rate: float = 0.0,
) -> dict:
    """Return the identity of a private run.

    Guarantees: whatever the caller declares, what trains is in it: class weights, learning rate,
    schedule, averaging, precision, and the names of the parameters that are trained; what only
    predicts (the number of shifts) is not, since another prediction is no other run.

    Args:
        arm: not yet used.
        model: its network.
        parameters: declared by the caller; what the promise says already, and where the start's
            weights came from, is left out.
        learning_rate, schedule, averaging, head_learning_rate: of the session; the last one only
            where the head alone is trained.
    """
    promised = arm.promise.as_dict()
    declared = {
        name: value
        for name, value in parameters.items()
        if name not in promised and name not in ("PRETRAIN", "SCORE_SHIFTS")
    } | {
        "POS_WEIGHTS": None if arm.pos_weight is None else arm.pos_weight.tolist(),
        "LEARNING_RATE": learning_rate,
        "SCHEDULE": schedule,
        "AVERAGING": averaging,
        "PRECISION": arm.precision,
        "trained": [name for name, weights in model.named_parameters() if weights.requires_grad],
    }
    declared |= networks.sides_of(arm.network)
    if arm.is_head_alone or arm.head_arm:
        declared |= {"HEAD_LEARNING_RATE": head_learning_rate}
    return {
        "promise": promised,
        "data": arm.data.content_hash(),
        "start": arm.start,
        "parameters": declared,
    }
