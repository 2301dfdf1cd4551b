"""Private arms from settings in one flat row, so that a test can change a single one."""

import dataclasses

from helpers.privacy import promise
from helpers.training import private_step


def declared(settings):
    """The budget, the batching and what is left of flat settings."""
    parts = [
        kind(**{name: settings[name] for name in names if name in settings})
        for kind in (promise.PrivacyBudget, promise.Batching)
        for names in [[field.name for field in dataclasses.fields(kind)]]
    ]
    taken = {field.name for part in parts for field in dataclasses.fields(part)}
    return *parts, {name: value for name, value in settings.items() if name not in taken}


def private_arm(data, model, **settings):
    """A private arm of flat settings."""
    budget, batching, others = declared(settings)
    return private_step.PrivateArm(data, model, budget, batching, **others)


def settle(**settings):
    """A promise of flat settings."""
    budget, batching, others = declared(settings)
    return promise.settle(budget, batching, **others)
