"""Plant privacy faults one at a time in a copy of the package and demand that the unit tests go red.

    make mutants          (or: python tests/mutants.py [--only TEXT] [--jobs 2])

Each fault is one exact replacement in one helper (`FAULTS`; the text must stand there exactly once). For each the tests
it names, a few seconds' worth, are run on the copy, and one of them must fail. The last line says how many were caught; the
exit status is 1 unless all were. To add a fault, add an entry.
"""

import argparse
import contextlib
import dataclasses
import io
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

HEAVY = ["pytest", "torch", "torch._dynamo", "pandas", "pyarrow.parquet", "scipy.stats", "scipy.optimize", "dp_accounting.pld.privacy_loss_distribution", "opacus",
         "opacus.accountants", "sklearn.metrics", "safetensors.torch", "pydantic", "yaml", "tqdm", "PIL.Image", "matplotlib.pyplot"]
ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass
class Fault:
    """One privacy fault: in helpers/<module>.py `right` becomes `wrong`; one of `tests` (modules, or module::test) must catch it."""

    name: str
    module: str
    right: str
    wrong: str
    tests: tuple[str, ...]


MANY_STEPS = "test_exact_steps::test_many_steps_of_few_patients_are_exact_and_empty_draws_among_them"
WHOLE_STEPS = "test_exact_steps::test_every_value_of_a_gradient_is_the_clipped_sum_plus_its_keyed_noise"
PRIVATE_STEPS = "test_exact_steps::test_private_steps_of_the_whole_network_are_exact_from_generators_of_known_state"
RESUMED_STEPS = "test_exact_steps::test_every_step_of_a_session_is_the_keyed_one_also_after_a_resume"
NEVER_KEYED = "test_exact_steps::test_private_mode_never_asks_for_a_keyed_stream"
PAIRS = "test_exact_steps::test_all_pairs_of_units_are_drawn_independently_in_one_step_and_in_successive_ones"
RATE = "test_exact_steps::test_the_rate_that_draws_is_the_one_promised_and_accounted_for"
RECORD = "test_private_sessions::test_every_field_of_a_finished_private_record_is_what_was_promised"
ONE_AT_A_TIME = "test_clipping::test_clipped_sum_equals_one_unit_at_a_time"

FAULTS = [
    # ---- the clipped sum
    Fault("gradients by group shown in private mode", "group_gradients", "if not arm.shows_diagnostics:", "if False:", ("test_group_gradients",)),
    Fault("the clip norm of the diagnosis kept for training", "group_gradients", "        arm.clipped.clip_norm = kept\n", "        pass\n",
          ("test_group_gradients",)),
    Fault("gradients formed together with the strides exchanged", "layer_gradients",
          "conv.kernel_size[dimension], conv.stride[dimension])", "conv.kernel_size[dimension], conv.stride[1 - dimension])",
          ("test_layer_gradients",)),
    Fault("images of another unit in gradients formed together", "layer_gradients",
          "zip(b.split(at_once), seen.split(at_once))", "zip(b.roll(1, 0).split(at_once), seen.split(at_once))",
          ("test_layer_gradients",)),
    Fault("no clipping", "clipping", ".clamp(max=1.0), 0.0)", ".clamp(min=1.0, max=1.0), 0.0)", (ONE_AT_A_TIME,)),
    Fault("each image clipped and summed over a patient", "clipping",
          "        self._units = units = _units(losses, unit_index, n_units)\n",
          "        if n_units < len(losses):\n"
          "            norms = self.add(losses, torch.arange(len(losses)), len(losses))\n"
          "            return torch.zeros(n_units).index_add_(0, unit_index, norms)\n"
          "        self._units = units = _units(losses, unit_index, n_units)\n", (ONE_AT_A_TIME,)),
    Fault("1/n_u in the sum but not in the norm", "clipping", "norms = torch.stack([record.squares for record in records]).sum(0).sqrt()",
          "norms = torch.stack([record.squares for record in records]).sum(0).sqrt() * torch.tensor(units.sizes)", (ONE_AT_A_TIME,)),
    Fault("1/n_u forgotten", "clipping", "(losses / images_per_unit).sum().backward()", "losses.sum().backward()", (ONE_AT_A_TIME,)),
    Fault("one layer left out of the norm", "clipping", "torch.stack([record.squares for record in records])",
          "torch.stack([record.squares for record in records[1:]])", (ONE_AT_A_TIME,)),
    Fault("clipping to 1.01 C", "clipping", "self.clip_norm * (1 - 2e-6)", "self.clip_norm * 1.01", (ONE_AT_A_TIME,)),
    Fault("the first unit of a batch not clipped", "clipping", "        is_whole = bool(kept.all())\n",
          "        weights[0] = kept[0].to(weights)\n        is_whole = bool(kept.all())\n", (ONE_AT_A_TIME,)),
    Fault("units of a single image not clipped", "clipping", "        is_whole = bool(kept.all())\n",
          "        weights = torch.where(torch.tensor(units.sizes) > 1, weights, kept.to(weights))\n        is_whole = bool(kept.all())\n",
          (ONE_AT_A_TIME,)),
    Fault("a coefficient per layer", "clipping", "record.weighted_sums(weights, weights[units.index])",
          "record.weighted_sums(w := (self.clip_norm / record.squares.sqrt().clamp(min=1e-30)).clamp(max=1.0), w[units.index])", (ONE_AT_A_TIME,)),
    Fault("views not counted in n_u", "clipping", "images_per_unit = torch.tensor(units.sizes, device=losses.device)[unit_index]",
          "images_per_unit = torch.ones(len(losses), device=losses.device)", (ONE_AT_A_TIME,)),
    Fault("a NaN unit multiplied by 0", "clipping", "            if not is_whole:\n", "            if False:\n",
          ("test_clipping::test_a_broken_image_removes_its_unit_and_leaves_the_others_bit_for_bit",)),
    Fault("sums not cleared after a step without units", "clipping",
          "sums, self._sums = self._sums, [None] * len(self.parameters)", "sums = self._sums",
          ("test_clipping::test_clipped_sum_starts_from_zero_after_take",)),
    Fault("a layer used twice", "clipping", "if used[name] != 1:", "if used[name] < 1:", ("test_network_checks",)),
    Fault("values changed in place", "clipping", "if (self.a._version, self.output._version) != self.versions:", "if False:",
          ("test_clipping::test_values_changed_in_place_are_refused",)),
    Fault("parameters unfrozen during training", "clipping",
          "if [id(p) for p in self.model.parameters() if p.requires_grad] != list(self._place):", "if False:",
          ("test_training::test_no_gradient_but_the_noisy_mean_reaches_the_optimizer",)),
    Fault("a (B, 1) loss let through", "clipping", "if losses.ndim != 1 or len(losses)", "if len(losses)",
          ("test_clipping::test_clipped_sum_refuses_a_loss_that_is_not_one_value_per_image",)),
    Fault("images of a unit apart from each other let through", "clipping", "if bool((unit_index[1:] < unit_index[:-1]).any()):", "if False:",
          ("test_clipping::test_clipped_sum_refuses_images_of_a_unit_apart_from_each_other",)),
    Fault("a clip norm of infinity", "clipping", 'checks.number("CLIP_NORM", clip_norm, 0, 1e6, open_low=True)', "pass",
          ("test_clipping::test_clipped_sum_refuses_a_clip_norm_that_bounds_nothing",)),
    Fault("GroupNorm's weight left out of the norm", "layer_gradients",
          'return _squares(gradients["weight"]) + _squares(gradients["bias"]), gradients',
          'return _squares(gradients["bias"]), gradients', ("test_layer_gradients",)),
    Fault("a convolution's bias left out of the norm", "layer_gradients",
          '        gradients["bias"] = units.add_up(b.flatten(2).sum(2))\n        squares = squares + _squares(gradients["bias"])',
          '        gradients["bias"] = units.add_up(b.flatten(2).sum(2))', ("test_layer_gradients",)),
    Fault("the planes of a volume's kernels exchanged in the unit's gradient", "layer_gradients",
          "1, *range(3, 3 + n))", "1, *reversed(range(3, 3 + n)))", ("test_layer_gradients",)),
    Fault("a linear layer's bias left out of the norm", "layer_gradients",
          '        gradients["bias"] = units.add_up(b.sum(1))\n        squares = squares + _squares(gradients["bias"])',
          '        gradients["bias"] = units.add_up(b.sum(1))', ("test_layer_gradients",)),
    Fault("a Gram matrix shifted on one side only", "layer_gradients", ":, :, i:i + rows] for i in down", ":, :, 0:rows] for i in down",
          ("test_layer_gradients",)),
    Fault("rounding of nearly cancelling images ignored", "layer_gradients", "_ROUNDING = 8", "_ROUNDING = 0",
          ("test_clipping::test_a_unit_whose_images_nearly_cancel_keeps_the_bound",)),
    Fault("last physical batch dropped", "units", "    if held:\n        cuts.append", "    if False:\n        cuts.append", ("test_units",)),
    Fault("a unit split where the physical batch ends", "units", "if held and held + n_images > physical_batch_size:",
          "if held and held + n_images > physical_batch_size + 1:", ("test_units",)),
    Fault("units of one size added up in another's place", "units", "[(torch.nonzero(sizes == n)[:, 0], torch.nonzero(images == n)[:, 0], n)",
          "[(torch.nonzero(sizes == n)[:, 0].flip(0), torch.nonzero(images == n)[:, 0], n)", (WHOLE_STEPS,)),
    Fault("a weight used functionally", "network_checks", "if name is not None and name != self._inside and",
          "if False and name != self._inside and", ("test_network_checks",)),
    Fault("an unknown layer let through", "network_checks", "if not is_container and type(module) not in HARMLESS:", "if False:",
          ("test_network_checks",)),
    Fault("a buffer let through", "network_checks", "if any(True for _ in module.buffers(recurse=False)):", "if False:",
          ("test_network_checks",)),
    Fault("a shared weight let through", "network_checks", "!= name:\n                checks.refuse(\"each", "== 0:\n                checks.refuse(\"each",
          ("test_network_checks",)),
    Fault("BatchNorm let through", "network_checks", 'if "BatchNorm" in type(module).__name__:', "if False:", ("test_network_checks",)),
    Fault("input standardised over the batch", "models", "every = tuple(range(1, pixels.ndim))", "every = tuple(range(0, pixels.ndim))",
          (WHOLE_STEPS, "test_models")),

    # ---- the step
    Fault("a unit split over two pieces and clipped in each", "arms", "        loss_sum, norms = 0.0, [torch.zeros(0)]\n",
          "        positions, moves = ([part for own in parts for part in np.array_split(own, 2) if len(part)]\n"
          "                            for parts in (positions, moves))\n"
          "        loss_sum, norms = 0.0, [torch.zeros(0)]\n", (WHOLE_STEPS,)),
    Fault("each view clipped as a unit of its own", "arms", "            sizes = [len(own) for own in positions[piece]]\n",
          "            sizes = [len(own) // views for own in positions[piece] for views in [self.promise['views_per_image']] * self.promise['views_per_image']]\n",
          (WHOLE_STEPS,)),
    Fault("one view whatever was asked for", "arms", "{unit: np.repeat(own, views) for", "{unit: own for", (WHOLE_STEPS,)),
    Fault("noise scaled by 1 instead of C", "arms", 'self.promise["noise_multiplier"] * self.promise["clip_norm"])',
          'self.promise["noise_multiplier"])', ("test_selftest", WHOLE_STEPS)),
    Fault("noise of 0.99 of its scale", "arms", 'self.promise["noise_multiplier"] * self.promise["clip_norm"])',
          'self.promise["noise_multiplier"] * self.promise["clip_norm"] * 0.99)', (MANY_STEPS,)),
    Fault("noise divided by the views", "arms", 'self.promise["noise_multiplier"] * self.promise["clip_norm"])',
          'self.promise["noise_multiplier"] * self.promise["clip_norm"] / self.promise["views_per_image"])', (WHOLE_STEPS,)),
    Fault("weaker noise in step 7", "arms", 'self.promise["noise_multiplier"] * self.promise["clip_norm"])',
          'self.promise["noise_multiplier"] * self.promise["clip_norm"] * (0.9 if self.steps_done == 7 else 1))', (MANY_STEPS,)),
    Fault("weaker noise in the last step", "arms", 'self.promise["noise_multiplier"] * self.promise["clip_norm"])',
          'self.promise["noise_multiplier"] * self.promise["clip_norm"] * (0.9 if self.steps_done == self.steps - 1 else 1))', (MANY_STEPS,)),
    Fault("weaker noise in the last epoch of private mode", "arms", 'self.promise["noise_multiplier"] * self.promise["clip_norm"])',
          'self.promise["noise_multiplier"] * self.promise["clip_norm"] '
          '* (0.9 if self.is_private and self.steps_done >= self.steps - self.steps_per_epoch else 1))', (MANY_STEPS,)),
    Fault("weaker noise where few units were drawn", "arms", "        signal, noise = self.set_noisy_mean()\n",
          "        signal, noise = self.set_noisy_mean()\n"
          "        for parameter in self.clipped.parameters if len(drawn) == 1 else ():\n            parameter.grad.mul_(0.5)\n", (MANY_STEPS,)),
    Fault("the last parameter without noise", "arms", "total.add_(added)", "total.add_(added if parameter is not self.clipped.parameters[-1] else 0)",
          (MANY_STEPS,)),
    Fault("the noise of one parameter used for others of its shape", "arms", "zip(self.clipped.parameters, sums, noise):",
          "zip(self.clipped.parameters, sums, [{s.shape: n for s, n in zip(sums, noise)}[s.shape] for s in sums]):", (WHOLE_STEPS,)),
    Fault("one value without noise", "arms", "            parameter.grad = total", "            added.view(-1)[0] = 0\n            parameter.grad = total",
          (MANY_STEPS,)),
    Fault("noise added per physical batch", "arms", "            norms.append(self.clipped.add(losses, unit_index, len(sizes)).cpu())",
          "            norms.append(self.clipped.add(losses, unit_index, len(sizes)).cpu())\n"
          "            sums = self.clipped.take()\n"
          "            extra = self.randomness.noise(sums, self.promise['noise_multiplier'] * self.promise['clip_norm'])\n"
          "            self.clipped._sums = [s + e for s, e in zip(sums, extra)]", (WHOLE_STEPS,)),
    Fault("noise missing on an empty batch", "arms", "noise = self.randomness.noise(sums,",
          "noise = [torch.zeros_like(s) for s in sums] if not any(s.any() for s in sums) else self.randomness.noise(sums,", (MANY_STEPS,)),
    Fault("no step on an empty draw", "arms", "        loss_sum, norms = self.add_units(drawn, self.steps_done)\n",
          "        if not drawn:\n            return 0.0, 0\n        loss_sum, norms = self.add_units(drawn, self.steps_done)\n", (MANY_STEPS,)),
    Fault("an empty draw drawn again", "arms", "        images = [self.data.units[unit] for unit in drawn]\n",
          "        while not len(drawn) and self.is_private:\n"
          "            drawn = self.randomness.draw_units(len(self.data.units), self.sample_rate)\n"
          "        images = [self.data.units[unit] for unit in drawn]\n", (MANY_STEPS,)),
    Fault("a draw that is too large cut off", "arms", "        images = [self.data.units[unit] for unit in drawn]\n",
          '        drawn = drawn[:2 * self.promise["expected_batch_size"]]\n        images = [self.data.units[unit] for unit in drawn]\n', (MANY_STEPS,)),
    Fault("division by the actual number of units", "arms", '.div_(self.promise["expected_batch_size"])',
          ".div_(max(1, len(self.draw())))", (WHOLE_STEPS,)),
    Fault("q from the number of images while the unit is a patient", "arms", "expected_batch_size / len(data.units)\n",
          "expected_batch_size / len(data.rows)\n", (RATE,)),
    Fault("units drawn more often than accounted for", "arms", "self.randomness.draw_units(len(self.data.units), self.sample_rate)",
          "self.randomness.draw_units(len(self.data.units), min(1.0, 1.02 * self.sample_rate))", (RATE,)),
    Fault("units drawn more often in the last epoch", "arms", "self.randomness.draw_units(len(self.data.units), self.sample_rate)",
          "self.randomness.draw_units(len(self.data.units), self.sample_rate * (1.1 if self.steps_done >= 8 else 1))", (RATE,)),
    Fault("the last unit never drawn", "arms", "self.randomness.draw_units(len(self.data.units), self.sample_rate)",
          "self.randomness.draw_units(len(self.data.units) - 1, self.sample_rate)", (RATE,)),
    Fault("augmentation by place in the batch", "arms", "self.randomness.augmentation(self.data.names[unit], step)) for unit, own in drawn.items()]",
          "self.randomness.augmentation(str(place), step)) for place, own in enumerate(positions)]", (MANY_STEPS,)),
    Fault("sums of an interrupted step left to the next", "arms", "        self.clipped.take()  # what an interrupted", "        # what an interrupted",
          ("test_training::test_an_interrupted_step_leaves_nothing_to_the_next",)),
    Fault("old gradients reach the optimizer", "arms", "        self.model.zero_grad()  # nothing", "        # nothing",
          ("test_training::test_no_gradient_but_the_noisy_mean_reaches_the_optimizer",)),
    Fault("the loss kept in private checkpoints", "arms", "        if not self.shows_diagnostics:\n            return 0.0, 0\n", "",
          ("test_training::test_private_mode_shows_no_diagnostics_and_repeats_no_noise",)),
    Fault("diagnostics shown in private mode", "arms", 'self.shows_diagnostics = mode == "private", mode == "demo"',
          'self.shows_diagnostics = mode == "private", True', ("test_training::test_private_mode_shows_no_diagnostics_and_repeats_no_noise",)),
    Fault("epsilon without the last step", "arms", 'self.sample_rate, self.steps_done, self.promise["delta"])',
          'self.sample_rate, max(0, self.steps_done - 1), self.promise["delta"])', (RATE,)),
    Fault("a ledger of the planned noise, whatever was used", "arms", "noise_multiplier=noise_multiplier, pos_weight=weighted_by,",
          "noise_multiplier=None, pos_weight=weighted_by,", ("test_private_runs::test_a_run_that_differs_is_refused_by_what_differs",)),
    Fault("class weights from private labels called none", "arms", "pos_weight=weighted_by,", 'pos_weight="none",',
          ("test_training::test_private_labels_in_the_loss_void_the_guarantee",)),
    Fault("a second session for an arm", "arms", "if self._session is not None or self.steps_done:", "if False:",
          ("test_private_runs::test_the_cell_of_the_session_run_again_is_refused",)),
    Fault("weights that changed since the arm was made", "arms", "if models.weights_hash(self.model.state_dict()) != self.start:", "if False:",
          ("test_private_runs::test_weights_that_changed_since_the_arm_was_made_are_refused",)),
    Fault("an arm that can be copied", "arms", "class PrivateArm(randomness.Unrepeatable):", "class PrivateArm:",
          ("test_private_runs::test_an_arm_cannot_be_copied_or_pickled",)),
    Fault("private steps that no register knows", "arms", "self.steps, is_registered=False)", "self.steps)",
          ("test_private_runs::test_no_noise_is_given_to_a_run_that_is_not_registered",)),

    # ---- sampling and noise
    Fault("one noise tensor repeated over parameters", "randomness", "            stream.standard_normal(out=chunk, dtype=np.float32)\n",
          "            chunk[:] = np.resize(stream.standard_normal(50, dtype=np.float32), chunk.shape)\n", (MANY_STEPS,)),
    Fault("one noise tensor repeated over steps", "randomness", "streams = [self._stream(name) for name in self._chunks]",
          "streams = [runs.random_stream(self.seed, name, 0) for name in self._chunks]", (MANY_STEPS,)),
    Fault("two chunks of noise alike", "randomness", 'f"noise {chunk}" for chunk', 'f"noise {chunk // 2}" for chunk',
          ("test_privacy::test_noise_chunks_differ_from_each_other_across_steps_and_from_the_other_streams",)),
    Fault("noise of large networks from one chunk", "randomness", "        self._released += 1\n",
          "        streams = streams if len(flat) <= 2**17 else [self._stream(self._chunks[0]) for _ in self._chunks]\n        self._released += 1\n",
          ("test_privacy::test_noise_of_a_step_is_its_chunks_by_key_whatever_the_threads",)),
    Fault("noise cut off at 3 standard deviations", "randomness", "            np.multiply(chunk,",
          "            np.clip(chunk, -3, 3, out=chunk)\n            np.multiply(chunk,", (WHOLE_STEPS,)),
    Fault("noise of two steps that cancels", "randomness", "np.float32(standard_deviation), out=chunk)",
          "np.float32(standard_deviation * (-1) ** (self._released // 5)), out=chunk)", (MANY_STEPS,)),
    Fault("noise counted on steps with units only", "randomness", "        self._released += 1\n",
          "        self._released += any(bool(p.any()) for p in parameters)\n", (MANY_STEPS,)),
    Fault("fixed-size batches instead of Poisson", "randomness",
          'return np.flatnonzero(self._stream("sampling").random(n_units) < sample_rate)',
          'return np.sort(self._stream("sampling").choice(n_units, round(n_units * sample_rate), replace=False))',
          ("test_privacy::test_draw_units_is_poisson", "test_selftest")),
    Fault("two units drawn by one number", "randomness", 'self._stream("sampling").random(n_units)',
          'np.resize(self._stream("sampling").random(n_units // 2 + 1), n_units)', (PAIRS,)),
    Fault("one draw for two steps running", "randomness", 'np.flatnonzero(self._stream("sampling").random(n_units)',
          'np.flatnonzero((self._fresh["sampling"] if self.mode == "private" else runs.random_stream(self.seed, "sampling", self._released // 2))'
          ".random(n_units)", (PAIRS,)),
    Fault("a unit that is always drawn", "randomness", ".random(n_units) < sample_rate)", ".random(n_units) * (np.arange(n_units) != 3) < sample_rate)",
          (MANY_STEPS,)),
    Fault("more images of a patient than K", "randomness", "rows if len(rows) <= most else", "rows if True else", (WHOLE_STEPS,)),
    Fault("a patient's images drawn with replacement", "randomness", "most, replace=False)", "most, replace=True)", (WHOLE_STEPS,)),
    Fault("private noise seeded with the seed", "randomness", "np.random.PCG64DXSM(np.random.SeedSequence())",
          "np.random.PCG64DXSM(np.random.SeedSequence(seed))", ("test_privacy::test_private_mode_ignores_every_global_seed",)),
    Fault("private noise seeded with 32 bits", "randomness", "np.random.PCG64DXSM(np.random.SeedSequence())",
          'np.random.PCG64DXSM(np.random.SeedSequence(int.from_bytes(os.urandom(4), "big")))',
          ("test_privacy::test_private_mode_has_128_bits_of_the_operating_system_for_each_stream",)),
    Fault("private noise seeded by numpy's global state", "randomness", "np.random.PCG64DXSM(np.random.SeedSequence())",
          "np.random.PCG64DXSM(np.random.SeedSequence(np.random.randint(0, 2**31, 4)))", ("test_privacy::test_private_mode_ignores_every_global_seed",)),
    Fault("one generator for all private streams", "randomness", "self._fresh = {name: np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence()))\n"
          "                           for name in", "self._fresh = {name: own for own in [np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence()))]\n"
          "                           for name in", ("test_privacy::test_private_mode_has_128_bits_of_the_operating_system_for_each_stream",)),
    Fault("private noise from the seed after a resume", "randomness", "        self._released = released\n",
          '        self._released, self.mode = released, "demo" if released else self.mode\n', (NEVER_KEYED,)),
    Fault("private noise from the seed in step 9", "randomness", 'return self._fresh[name] if self.mode == "private" else',
          'return self._fresh[name] if self.mode == "private" and self._released != 9 else', (NEVER_KEYED,)),
    Fault("private images moved by keyed streams", "randomness", 'return self._fresh["augmentation"] if self.mode == "private" else', "return", (NEVER_KEYED,)),
    Fault("a step beyond the plan", "randomness", "if self._released >= self.steps:", "if self._released > self.steps:",
          ("test_private_runs::test_no_step_is_released_beyond_the_plan",)),
    Fault("a count that may fall", "randomness", "if not self._released <= released <= self.steps:", "if not 0 <= released <= self.steps:",
          ("test_private_sessions::test_the_count_never_falls_nor_exceeds_the_plan",)),
    Fault("noise in a forked process", "randomness", "if os.getpid() != self._process:", "if False:",
          ("test_private_runs::test_an_arm_cannot_be_used_in_a_forked_child",)),
    Fault("generators that can be pickled", "randomness", "    def __reduce_ex__(", "    def _reduce_ex(", ("test_private_runs::test_an_arm_cannot_be_copied_or_pickled",)),
    Fault("streams that do not know their step", "runs", "np.random.SeedSequence([seed, key, step])", "np.random.SeedSequence([seed, key])",
          ("test_privacy::test_streams_differ_by_seed_name_and_step", MANY_STEPS)),

    # ---- data
    Fault("a patient's rows taken to lie together", "training_sets", "np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)",
          "np.split(np.arange(len(codes)), np.cumsum(np.bincount(codes))[:-1])", (WHOLE_STEPS,)),
    Fault("images of valid trained on", "training_sets", 'np.flatnonzero(cohort.table["split"] == "train")', 'np.flatnonzero(cohort.table["split"] != "test")',
          (RATE,)),
    Fault("labels of the wrong rows", "training_sets", "to_numpy(np.float32)[rows])", "to_numpy(np.float32)[:len(rows)])", (WHOLE_STEPS,)),
    Fault("images of a patient chosen by who else is there", "training_sets", 'f"{seed} {image}".encode()', 'f"{seed} {len(rows)} {image}".encode()',
          ("test_training::test_image_level_keeps_at_most_k_images_of_a_patient_whoever_else_is_there",)),
    Fault("one image more of a patient than the cap", "training_sets", "place <= max_images_per_patient", "place <= max_images_per_patient + 1",
          ("test_training::test_image_level_keeps_at_most_k_images_of_a_patient_whoever_else_is_there",)),
    Fault("the cap of images not checked", "promise", 'if unit == "image" and most_images > max_images_per_patient:', "if False:",
          ("test_training::test_images_of_a_patient_beyond_the_cap_are_refused_at_image_level",)),
    Fault("blank images make two patients one", "duplicates", 'rows["sha256"].where(~rows["is_constant"], rows["sha256"] + rows["patient_id"])', 'rows["sha256"]',
          ("test_cohorts::test_a_blank_image_makes_no_two_patients_one_and_leaves_out_no_image_of_another",)),
    Fault("a person under two names is two units", "duplicates", "        rows, notes = rows.assign(patient_id=unit), notes + merges\n", "        notes = notes + merges\n",
          ("test_cohorts",)),
    Fault("real patients called embedded", "schema", 'if self.access == "embedded" and self.layout.kind != "synthetic":', "if False:",
          ("test_manifests::test_read_refuses_to_call_real_patients_embedded",)),
    Fault("demo mode on real data", "checks", 'if mode == "demo" and access != "embedded":', 'if mode == "demo" and access == "private":',
          ("test_checks::test_mode_fits_has_demo_for_embedded_cohorts_only_and_private_for_all",)),
    Fault("class weights from private labels called public", "starts", 'return "private labels", arms', 'return "public", arms',
          ("test_training::test_pos_weight_is_negatives_over_positives_and_public_where_asked",)),
    Fault("a public cohort with the private films", "starts", "    lineage.checked([trained_on], private.name, own.enrol(*private.training_patients()))\n", "",
          ("test_lineage::test_public_and_private_cohorts_with_a_film_in_common_are_refused_before_pretraining",)),

    # ---- promise, accountant, ledger
    Fault("a noise multiplier checked for one epoch only", "promise", "spent = accounting.epsilon_spent(given, sample_rate, steps, delta)",
          "spent = accounting.epsilon_spent(given, sample_rate, min(steps, round(1 / sample_rate)), delta)",
          ("test_exact_steps::test_a_noise_multiplier_that_keeps_the_budget_of_one_epoch_only_is_refused",)),
    Fault("no noise in private mode let through", "promise", 'if mode == "private" and spent >', "if False and spent >",
          ("test_training::test_private_arm_refuses_what_promises_nothing",)),
    Fault("an infinite budget in private mode", "promise", 'checks.number("EPSILON", epsilon, 0, 1000, open_low=True)', "epsilon",
          ("test_exact_steps::test_private_mode_has_a_finite_budget_whatever_noise_is_given",)),
    Fault("noise calibrated for one step less", "promise", "accounting.noise_multiplier_for(epsilon, delta, sample_rate, steps)",
          "accounting.noise_multiplier_for(epsilon, delta, sample_rate, max(1, steps - 1))", (RATE,)),
    Fault("delta at 1/N let through", "promise", "if delta >= 1 / n_units and", "if delta > 1 / n_units and",
          ("test_exact_steps::test_delta_at_image_level_is_set_against_the_images_that_are_trained_on",)),
    Fault("delta of images set against patients", "arms", "self.promise = promises.settle(\n            unit=data.unit, n_units=len(data.units),",
          "self.promise = promises.settle(\n            unit=data.unit, n_units=min(len(data.units), 40),",
          ("test_exact_steps::test_delta_at_image_level_is_set_against_the_images_that_are_trained_on",)),
    Fault("a promise that can be changed", "promise", "return types.MappingProxyType(dict(", "return dict(dict(",
          ("test_private_runs::test_the_promise_cannot_be_changed",)),
    Fault("a weak delta called valid", "privacy", "if delta >= 1 / n_units:\n        return", "if delta >= 1:\n        return", ("test_privacy",)),
    Fault("private labels in the loss called valid", "privacy", 'if pos_weight == "private labels":', "if False:", ("test_privacy",)),
    Fault("demo mode called valid", "privacy", 'if mode == "demo":\n        return', "if False:\n        return", ("test_privacy",)),
    Fault("an unknown origin called valid", "privacy", 'return "valid" if is_clear else', 'return "valid" if True else', ("test_lineage",)),
    Fault("weights that do not say called random", "privacy", "if lineage is None or any(", "lineage = lineage or []\n    if any(", ("test_lineage",)),
    Fault("a ledger of more steps than planned", "privacy", "if not 0 <= steps_done <= steps:", "if False:", ("test_privacy",)),
    Fault("a ledger of patients for a run of images", "privacy", '    if unit == "image":\n        counts', "    if False:\n        counts",
          ("test_privacy::test_ledger_of_images_accounts_for_patients_with_several",)),
    Fault("the condition left out of the statement", "statement", 'condition = "" if entries["guarantee"] == "valid" else', 'condition = "" if True else',
          ("test_private_sessions::test_an_unknown_origin_makes_guarantee_and_statement_conditional",)),
    Fault("epsilon without the chance to be drawn twice", "accounting", "sampling_prob=run.sample_rate", "sampling_prob=run.sample_rate / 2",
          ("test_accounting::test_three_accountants_agree_and_epsilon_grows_with_steps",)),
    Fault("a patient's images never drawn together", "accounting", "noise_multiplier, np.arange(run.n_images + 1), own",
          "noise_multiplier, np.minimum(1.0, np.arange(run.n_images + 1)), own",
          ("test_accounting::test_epsilon_for_patient_of_one_step_bounds_direct_integration",)),

    # ---- sessions, register, lineage
    Fault("a finished private run trained again", "training", "return self._take_up_finished() or self._resume(stored)",
          "return self._resume(stored)", ("test_training::test_a_finished_private_run_is_taken_up_and_not_trained_again",)),
    Fault("accountant behind after resume", "training", '        self.arm.go_on_after(self.private.released if self.private else stored["step"])',
          '        self.arm.go_on_after(max(0, self.private.released - 1) if self.private else stored["step"])',
          ("test_training::test_a_resumed_private_run_goes_on_in_steps_and_ledger_with_fresh_noise",)),
    Fault("a step applied before it is counted", "training", "    loss_sum, n_images = session.arm.set_gradients()  # counts the step before it is applied\n"
          "    session.model.was_trained = True  # so that no private arm takes it for a start\n    session.optimizer.step()\n",
          "    session.optimizer.step()\n    loss_sum, n_images = session.arm.set_gradients()  # counts the step before it is applied\n",
          ("test_training::test_a_step_is_counted_before_it_is_applied", RESUMED_STEPS)),
    Fault("an identity without data", "training", '"data": arm.data.content_hash()', '"data": ""',
          ("test_private_runs::test_other_labels_films_or_patients_in_training_are_refused_and_others_are_not",)),
    Fault("an identity without its start", "training", '"start": arm.start', '"start": ""', ("test_private_runs::test_a_run_that_differs_is_refused_by_what_differs",)),
    Fault("an identity without the learning rate", "training", '"LEARNING_RATE": self.learning_rate,', "",
          ("test_private_runs::test_a_run_that_differs_is_refused_by_what_differs",)),
    Fault("an identity without one field of the promise", "training", '"promise": dict(arm.promise)',
          '"promise": {name: value for name, value in arm.promise.items() if name != "views_per_image"}',
          ("test_private_runs::test_a_run_that_differs_is_refused_by_what_differs",)),
    Fault("an identity without what is trained", "training", '"trained": [name for', '"trained": [name for _ in () for',
          ("test_private_sessions::test_a_run_of_another_identity_is_refused_and_says_what_differs",)),
    Fault("labels that decide no identity", "training_sets", ', *(own[finding].astype(float) for finding in findings)]', "]",
          ("test_private_runs::test_other_labels_films_or_patients_in_training_are_refused_and_others_are_not",)),
    Fault("a start that is not asked what it saw", "training", "        arm.lineage = lineage.checked(arm.lineage, cohort.name, patients)\n", "",
          ("test_private_sessions::test_a_session_refuses_weights_that_saw_the_patients",)),
    Fault("weights on disk before their steps are registered", "scoring", 'private_run.before_checkpoint(ledger["steps_done"])', "private_run.check_owner()",
          ("test_private_sessions::test_weights_are_in_the_register_before_they_are_on_disk",)),
    Fault("a checkpoint on disk before its steps are registered", "training", "lambda: self.private and self.private.before_checkpoint(self.step))", "lambda: None)",
          ("test_private_runs::test_a_line_stands_before_the_first_noisy_step_and_before_each_checkpoint",)),
    Fault("weights of a finished run replaced", "scoring", "if private_run and private_run.is_finished:", "if False:",
          ("test_private_runs::test_sources_versions_and_memory_decide_nothing",)),
    Fault("a run finished before its last step", "scoring", 'if ledger and ledger["steps_done"] < ledger["steps_planned"]:', "if False:",
          ("test_private_runs::test_a_run_is_not_finished_before_its_last_step",)),
    Fault("a private run that is not passed", "scoring", 'elif ledger and ledger["mode"] == "private":', "elif False:",
          ("test_private_sessions::test_private_weights_are_not_written_without_their_private_run",)),
    Fault("no line in the register", "private_runs", '        own.append("begin", fresh.uuid, session=fresh.session, **about | composition.line_of(promise))\n', "",
          ("test_private_runs::test_a_line_stands_before_the_first_noisy_step_and_before_each_checkpoint",)),
    Fault("a line in the register after the first steps", "private_runs", '        own.append("begin", fresh.uuid, session=fresh.session, **about | composition.line_of(promise))\n',
          '        first = fresh.before_checkpoint\n'
          '        fresh.before_checkpoint = lambda steps: (own.append("begin", fresh.uuid, session=fresh.session, **about | composition.line_of(promise)), first(steps))\n'
          '        fresh.check_owner = lambda: {"noted": 0}\n',
          ("test_private_runs::test_a_line_stands_before_the_first_noisy_step_and_before_each_checkpoint",)),
    Fault("an end that counts no steps", "private_runs", 'self.register.append("end", self.uuid, steps=steps, why="finished")',
          'self.register.append("end", self.uuid, steps=0, why="finished")',
          ("test_private_runs::test_a_line_stands_before_the_first_noisy_step_and_before_each_checkpoint",)),
    Fault("a checkpoint of another uuid taken up", "private_runs", "if on_disk.checkpoint_of is not None and on_disk.checkpoint_of != (note and note[\"uuid\"]) and not is_finished:", "if False:",
          ("test_private_sessions::test_a_checkpoint_of_another_run_of_the_same_promise_is_not_taken_up",)),
    Fault("a lost checkpoint begun again in silence", "private_runs", 'if on_disk.checkpoint_of is None and steps else ""', 'if False else ""',
          ("test_private_runs::test_a_damaged_or_missing_checkpoint_is_not_begun_again_in_silence",)),
    Fault("damaged weights trained again in silence", "private_runs", '    if is_finished:\n        return "weights.safetensors damaged or gone"\n', "",
          ("test_private_runs::test_damaged_weights_end_the_step_and_train_nothing",)),
    Fault("an older checkpoint that buys steps", "private_runs", 'patients.key, note["identity"], own, begun["noted"])', 'patients.key, note["identity"], own, on_disk.checkpoint_steps)',
          ("test_private_runs::test_an_older_checkpoint_put_back_does_not_buy_steps",)),
    Fault("steps that a kill kept from the register", "private_runs", "max(self.checkpoint_steps if self.checkpoint_of == uuid else 0,", "max(0,",
          ("test_private_sessions::test_steps_of_a_checkpoint_that_a_kill_kept_from_the_register_count_when_it_is_given_up",)),
    Fault("two sessions that write one run", "private_runs", 'if not line or line["session"] != self.session or line["is_ended"]:', "if not line:",
          ("test_private_runs::test_without_locks_on_the_disk_there_is_a_warning_and_the_register_decides",)),
    Fault("two kernels at one run", "locks", "    except BlockingIOError:\n", "    except ValueError:\n", ("test_private_runs::test_a_second_kernel_is_refused_by_name",)),
    Fault("another kind of run under a private name", "private_runs", "    if note_of(runs.run_dir(run)):\n", "    if False:\n",
          ("test_private_runs::test_a_private_run_is_not_replaced_by_another_kind_of_that_name",)),
    Fault("a budget ignored", "composition", "if budget is not None and (together := epsilon_together(lines))[0] > budget:", "if False:", ("test_private_runs::test_a_budget_is_kept_by_all_runs_together",)),
    Fault("a budget of each run by itself", "private_runs", "check_budget(budget, others + left + [", "check_budget(budget, [",
          ("test_private_runs::test_a_budget_is_kept_by_all_runs_together",)),
    Fault("a budget of a run taken up by itself", "private_runs", "check_budget(budget, others + [", "check_budget(budget, [",
          ("test_private_runs::test_a_run_that_was_given_up_and_comes_back_is_held_to_the_budget",)),
    Fault("other cohorts of the same patients not counted", "register", "            shared |= {other: words} if words else {}\n", "", ("test_register",)),
    Fault("patients' films not compared", "register", '("films", self.films, other.films))', ")", ("test_register",)),
    Fault("a torn line hides the next", "register", 'line = b"\\n" + line if is_torn else line', "line = line", ("test_register",)),
    Fault("a run without an end counts what it wrote", "register", 'else max(run["noted"], run["steps_planned"])}', 'else run["noted"]}', ("test_register",)),
    Fault("an end takes back what was written", "register", 'run["noted"] = max(run["noted"], line["steps"])', 'run["noted"] = line["steps"]', ("test_register",)),
    Fault("a line not yet on disk", "register", "                os.fsync(handle)\n", "", ("test_register",)),
    Fault("patients' hashes without salt", "register", 'hashlib.sha256(salt + kind.encode()', "hashlib.sha256(kind.encode()", ("test_register",)),
    Fault("image-level runs that count a patient as one image", "composition", '"n_images": promise["max_images_per_patient"] if promise["unit"] == "image" else 1}',
          '"n_images": 1}', ("test_composition",)),
    Fault("an unknown origin forgotten", "lineage", "before = [UNKNOWN] if start is None else start", "before = start or []", ("test_lineage",)),
    Fault("a lineage lost after a second start", "lineage", "return before + [ancestor", "return [ancestor", ("test_lineage",)),
    Fault("only the last ancestor asked", "lineage", "    for ancestor in start:\n", "    for ancestor in start[-1:]:\n", ("test_lineage",)),
    Fault("a key of the patients in private weights", "lineage", 'if is_private else {"patients": patients.key}', 'if False else {"patients": patients.key}', ("test_lineage",)),
    Fault("ancestors compared by name only", "lineage", "(key == patients.key or \"films\" in shared or ancestor.get", "(ancestor.get", ("test_lineage",)),
    Fault("a lineage not read from its file", "models", 'said = (stored.metadata() or {}).get("lineage")', 'said = "[]"', ("test_lineage",)),
    Fault("a private run's folder cleared", "results", "known, kept = self.state(step), self.private_runs(step)", "known, kept = self.state(step), set()",
          ("test_spending",)),
    Fault("a plan that counts no other runs", "spending", "if lines else None, others + lines)", "if lines else None, lines)", ("test_spending",)),
    Fault("a trained network taken for a start", "arms", 'if getattr(model, "was_trained", False):', "if False:",
          ("test_private_runs::test_a_network_that_was_trained_is_no_start_of_a_private_arm",)),
    Fault("steps of a live kernel thrown away uncounted", "training", "if earlier and earlier.private and earlier.step > earlier._saved_step:", "if False:",
          ("test_private_runs::test_steps_that_a_live_kernel_holds_are_written_before_it_goes_on_from_the_top",)),
    Fault("steps that a live kernel could not write not counted", "private_runs", "self.live_steps if self.live_of == uuid else 0)", "0)",
          ("test_private_runs::test_steps_that_a_live_kernel_cannot_write_are_counted",)),
    Fault("an interrupt in the middle of a step", "training", "            with checkpoints.undisturbed():\n                _train_one_step(session)\n", "            _train_one_step(session)\n",
          ("test_private_runs::test_an_interrupt_waits_for_the_end_of_the_step",)),
    Fault("a budget held at the run's own delta", "composition", 'delta = min(line["delta"] for line in lines)', 'delta = lines[-1]["delta"]',
          ("test_composition", "test_private_runs::test_a_budget_holds_at_the_least_delta_of_all")),
    Fault("a bound for class weights from private labels", "composition", 'if any(line["pos_weight"] == "private labels" and line["steps"] for line in lines):', "if False:",
          ("test_composition",)),
    Fault("a run that comes back beyond the budget", "private_runs", "            composition.check_budget(budget, others + [composition.line_of(promise)])\n            taken_up",
          "            taken_up", ("test_private_runs::test_a_run_that_was_given_up_and_comes_back_is_held_to_the_budget",)),
    Fault("cohorts that cannot be compared not counted", "register", "            if not own or not members:\n", "            if not own or not members:\n                continue\n"
          "            if False:\n", ("test_register",)),
    Fault("hashes of another salt compared", "register", 'is_comparable = str(stored["salted_with"]) == _hash_of(self._salt())', "is_comparable = True", ("test_register",)),
    Fault("an orphan line overlooked", "register", '            elif line["uuid"] not in found:\n                checks.refuse(', '            elif line["uuid"] not in found:\n                (lambda *said: None)(',
          ("test_register",)),
    Fault("a start that another register knows called valid", "lineage", '"its patients are not in this privacy register"', '""', ("test_lineage",)),
    Fault("equal patient ids of a start not named", "lineage", "f\"{shared['patient ids']:,} patient ids are equal\" if shared else", '"" if shared else', ("test_lineage",)),
    Fault("demo mode for real patients in the arm", "arms", '            checks.mode_fits(mode, data.cohort.record.get("access", "embedded"))\n', "            pass\n",
          ("test_private_runs::test_demo_mode_is_not_to_be_had_for_real_patients",)),
    Fault("a run of another register given up uncounted", "private_runs", 'line = line_of_run(own, note["uuid"]) | {"is_known": False}', 'line = line_of_run(own, note["uuid"])',
          ("test_private_runs::test_a_run_begun_under_another_register_is_registered_before_it_is_given_up",)),
    Fault("a changed checkpoint taken up", "private_runs", 'if on_disk.checkpoint_of == note["uuid"] and on_disk.checkpoint_identity != note["identity"] and not is_finished:', "if False:",
          ("test_private_sessions::test_a_changed_checkpoint_is_refused_where_steps_are_known",)),
    Fault("the start of a private run cleared", "results", "        return own | of_own | {folder for folder in folders if", "        return own | of_own | {folder for folder in () if", ("test_spending",)),

    # ---- the self-test
    Fault("a self-test that never fails", "selftest", "        if not is_kept:\n            checks", "        if False:\n            checks",
          ("test_selftest",)),
    Fault("a self-test that tries no bound", "selftest", "return most <= 1 + 1e-5,", "return True,", ("test_selftest",)),
    Fault("a self-test that looks at no noise", "exact_steps", 'return worst <= 1e-6 * deviation + 1e-9 * arm.promise["clip_norm"], text', "return True, text", ("test_selftest",)),
    Fault("a self-test that looks at no sum", "exact_steps", 'if mode == "demo" and (total - alone)', "if False and (total - alone)", ("test_selftest",)),
    Fault("a self-test that looks at no pairs", "exact_steps", "is_right &= bool((low <= counts)", "is_right |= bool((low <= counts)", ("test_selftest",)),
    Fault("a self-test that looks at no global generator", "exact_steps", "is_untouched = _global_states() == before", "is_untouched = True", ("test_selftest",)),
    Fault("a self-test that lets two sources be alike", "exact_steps", "differ = all(one != other", "differ = all(True", ("test_selftest",)),
    Fault("a self-test that looks at no rate", "exact_steps", "is_right = asked == [wanted] and", "is_right =", ("test_selftest",)),
    Fault("a self-test that leaves its own randomness", "exact_steps", "        for name, value in own.items():\n            setattr(arm, name, value)\n", "", ("test_selftest",)),
]


NO_FAULT = Fault("(no fault planted)", "clipping", "", "", tuple(sorted({test for fault in FAULTS for test in fault.tests})))


def catch(fault: Fault) -> tuple[str, float]:
    """Return the test that caught a fault, or "" if none did, and the seconds it took. To be called in a process of its own."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve()
        for part in ("helpers", "data_manifests", "notebooks", "profiles", "tests/unit"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "run_all.py", "run_notebook.py"):
            shutil.copy(ROOT / name, copy)
        path = copy / "helpers" / f"{fault.module}.py"
        source = path.read_text(encoding="utf-8")
        if fault.right and source.count(fault.right) != 1:
            return f"NOT PLANTED: its text stands {source.count(fault.right)} times in {path.name}", 0.0
        path.write_text(source.replace(fault.right, fault.wrong) if fault.right else source, encoding="utf-8")
        tests = [f"tests/unit/{module}.py{colons}{name}" for module, colons, name in (test.partition("::") for test in fault.tests)]
        os.chdir(copy)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it, and tests send it
        sys.path.insert(0, str(copy))
        os.environ |= {"PYTHONPATH": str(copy), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # nbval alone takes seconds to load
        output = io.StringIO()
        for descriptor in (1, 2):  # progress bars write at the end of the process
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={copy / 'tmp'}", "-m", "not slow", *tests])
        found = {0: "", 1: _red_test(output.getvalue())}.get(int(code), f"NOT TRIED: pytest ended with {int(code)}: {output.getvalue()[-300:]}")
        if Path(sys.modules["helpers"].__file__).parent != copy / "helpers":
            found = "NOT TRIED: another copy of the helpers was imported"
        os.chdir(ROOT)
    return found, time.monotonic() - began


def _red_test(output: str) -> str:
    """Return the test that went red; "NOT CAUGHT: ..." if it did because the planted code is no longer Python or crashed."""
    found = re.search(r"^(?:FAILED|ERROR) tests/unit/(.+?)(?: - (.*))?$", output, re.MULTILINE)
    reason = re.search(r"^E +(\S+)", output, re.MULTILINE)
    error = reason.group(1).rstrip(":") if reason else ""
    is_crash = error.endswith(("NameError", "SyntaxError", "IndexError", "TypeError", "AttributeError", "ImportError"))
    return (f"NOT CAUGHT: it crashed with {error} in " if is_crash else "") + (found.group(1) if found else "a test")


def main() -> int:
    """Try the faults; return 0 if all were caught."""
    parser = argparse.ArgumentParser(description="Plant privacy faults and see whether the unit tests notice.")
    parser.add_argument("--only", default="", help="faults whose name holds this text")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="side by side (default: one a core)")
    arguments = parser.parse_args()
    faults = [fault for fault in FAULTS if arguments.only in fault.name]
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(HEAVY)  # imported once; a process of its own for each fault is then made in no time
    n_caught, began = 0, time.monotonic()
    with ProcessPoolExecutor(arguments.jobs, mp_context=processes, max_tasks_per_child=1) as pool:
        untouched = pool.submit(catch, NO_FAULT)
        found = pool.map(catch, faults)
        if red := untouched.result()[0]:
            print(f"Expected the tests to pass while no fault is planted; got {red}. Mend that first.", file=sys.stderr)
            pool.shutdown(cancel_futures=True)
            return 1
        print(f"{'fault':62} seconds caught by", flush=True)
        for fault, (test, seconds) in zip(faults, found):
            is_caught = bool(test) and not test.startswith("NOT")
            n_caught += is_caught
            print(f"{fault.name:62} {seconds:7.0f} {test or 'NOT CAUGHT'}", flush=True)
    print(f"{n_caught} of {len(faults)} caught in {(time.monotonic() - began) / 60:.1f} minutes")
    return 0 if n_caught == len(faults) else 1


if __name__ == "__main__":
    sys.exit(main())
