"""Plant privacy faults one at a time in a copy of the package and demand that the unit tests go red.

    make mutants          (or: python tests/mutants.py [--only TEXT] [--jobs 2])

Each fault is one exact replacement in one helper (`FAULTS`; the text must stand there exactly once). For each the tests
it names are run on the copy, and if they pass, all tests about privacy. The last line says how many were caught; the exit
status is 1 unless all were. To add a fault, add an entry.
"""

import argparse
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ALL_TESTS = ["test_units", "test_clipping", "test_layer_gradients", "test_network_checks", "test_privacy", "test_training", "test_selftest",
             "test_accounting", "test_group_gradients"]


@dataclasses.dataclass
class Fault:
    """One privacy fault: in helpers/<module>.py `right` becomes `wrong`; `tests` are likely to catch it."""

    name: str
    module: str
    right: str
    wrong: str
    tests: tuple[str, ...] = ("test_clipping",)


FAULTS = [
    Fault("gradients by group shown in private mode", "group_gradients", "if not arm.shows_diagnostics:", "if False:", ("test_group_gradients",)),
    Fault("the clip norm of the diagnosis kept for training", "group_gradients", "        arm.clipped.clip_norm = kept\n", "        pass\n",
          ("test_group_gradients",)),
    Fault("gradients formed together with the strides exchanged", "layer_gradients",
          "conv.kernel_size[dimension], conv.stride[dimension])", "conv.kernel_size[dimension], conv.stride[1 - dimension])",
          ("test_layer_gradients",)),
    Fault("images of another unit in gradients formed together", "layer_gradients",
          "zip(b.split(at_once), seen.split(at_once))", "zip(b.roll(1, 0).split(at_once), seen.split(at_once))",
          ("test_layer_gradients",)),
    Fault("no clipping", "clipping", ".clamp(max=1.0), 0.0)", ".clamp(min=1.0, max=1.0), 0.0)"),
    Fault("each image clipped and summed over a patient", "clipping",
          "        self._units = units = _units(losses, unit_index, n_units)\n",
          "        if n_units < len(losses):\n"
          "            norms = self.add(losses, torch.arange(len(losses)), len(losses))\n"
          "            return torch.zeros(n_units).index_add_(0, unit_index, norms)\n"
          "        self._units = units = _units(losses, unit_index, n_units)\n"),
    Fault("1/n_u in the sum but not in the norm", "clipping", "norms = torch.stack([record.squares for record in records]).sum(0).sqrt()",
          "norms = torch.stack([record.squares for record in records]).sum(0).sqrt() * torch.tensor(units.sizes)"),
    Fault("1/n_u forgotten", "clipping", "(losses / images_per_unit).sum().backward()", "losses.sum().backward()"),
    Fault("a unit split over two pieces and clipped in each", "arms", "        loss_sum, norms = 0.0, [torch.zeros(0)]\n",
          "        positions, moves = ([part for own in parts for part in np.array_split(own, 2) if len(part)]\n"
          "                            for parts in (positions, moves))\n"
          "        loss_sum, norms = 0.0, [torch.zeros(0)]\n", ("test_training",)),
    Fault("noise scaled by 1 instead of C", "arms", 'self.promise["noise_multiplier"] * self.promise["clip_norm"], step)',
          'self.promise["noise_multiplier"], step)', ("test_training", "test_selftest")),
    Fault("noise added per physical batch", "arms", "            norms.append(self.clipped.add(losses, unit_index, len(sizes)).cpu())",
          "            norms.append(self.clipped.add(losses, unit_index, len(sizes)).cpu())\n"
          "            sums = self.clipped.take()\n"
          "            extra = self.randomness.noise(sums, self.promise['noise_multiplier'] * self.promise['clip_norm'], step)\n"
          "            self.clipped._sums = [s + e for s, e in zip(sums, extra)]", ("test_training",)),
    Fault("noise missing on an empty batch", "arms", "noise = self.randomness.noise(sums,",
          "noise = [torch.zeros_like(s) for s in sums] if not any(s.any() for s in sums) else self.randomness.noise(sums,",
          ("test_training", "test_selftest")),
    Fault("one noise tensor repeated over parameters", "privacy", "self._stream(name, step).standard_normal(out=chunk, dtype=np.float32)",
          "chunk[:] = np.resize(runs.random_stream(self.seed, 'noise', step).standard_normal(50, dtype=np.float32), chunk.shape)",
          ("test_privacy",)),
    Fault("one noise tensor repeated over steps", "privacy", "self._stream(name, step).standard_normal(out=chunk, dtype=np.float32)",
          "runs.random_stream(self.seed, name, 0).standard_normal(out=chunk, dtype=np.float32)", ("test_privacy",)),
    Fault("two chunks of noise alike", "privacy", 'f"noise {chunk}" for chunk', 'f"noise {chunk // 2}" for chunk', ("test_privacy",)),
    Fault("fixed-size batches instead of Poisson", "privacy",
          'return np.flatnonzero(self._stream("sampling", step).random(n_units) < sample_rate)',
          'return np.sort(self._stream("sampling", step).choice(n_units, round(n_units * sample_rate), replace=False))',
          ("test_privacy", "test_selftest")),
    Fault("q from the number of images while the unit is a patient", "arms", "self.sample_rate = expected_batch_size / n_units",
          "self.sample_rate = expected_batch_size / len(data.rows)", ("test_training",)),
    Fault("more images of a patient than K", "privacy", "rows if len(rows) <= most else", "rows if True else", ("test_privacy", "test_training")),
    Fault("views not counted in n_u", "clipping", "images_per_unit = torch.tensor(units.sizes, device=losses.device)[unit_index]",
          "images_per_unit = torch.ones(len(losses), device=losses.device)", ("test_clipping", "test_training")),
    Fault("division by the actual number of units", "arms", '.div_(self.promise["expected_batch_size"])',
          ".div_(max(1, len(self.draw(step))))", ("test_training",)),
    Fault("accountant one step behind after resume", "training", "            setattr(self, name, stored[name])",
          "            setattr(self, name, stored[name])\n        self.step = max(0, self.step - 1)", ("test_training",)),
    Fault("noise re-seeded at resume in private mode", "privacy", "np.random.PCG64DXSM(np.random.SeedSequence())",
          "np.random.PCG64DXSM(np.random.SeedSequence(seed))", ("test_privacy", "test_training")),
    Fault("GroupNorm's weight left out of the norm", "layer_gradients",
          'return _squares(gradients["weight"]) + _squares(gradients["bias"]), gradients',
          'return _squares(gradients["bias"]), gradients', ("test_layer_gradients",)),
    Fault("a convolution's bias left out of the norm", "layer_gradients",
          '        gradients["bias"] = units.add_up(b.flatten(2).sum(2))\n        squares = squares + _squares(gradients["bias"])',
          '        gradients["bias"] = units.add_up(b.flatten(2).sum(2))', ("test_layer_gradients",)),
    Fault("the planes of a volume's kernels exchanged in the unit's gradient", "layer_gradients",
          "1, *range(3, 3 + n))", "1, *reversed(range(3, 3 + n)))", ("test_layer_gradients",)),
    Fault("a weak delta called valid", "privacy", "if delta >= 1 / n_units:\n        return", "if delta >= 1:\n        return", ("test_privacy",)),
    Fault("a linear layer's bias left out of the norm", "layer_gradients",
          '        gradients["bias"] = units.add_up(b.sum(1))\n        squares = squares + _squares(gradients["bias"])',
          '        gradients["bias"] = units.add_up(b.sum(1))', ("test_layer_gradients",)),
    Fault("a Gram matrix shifted on one side only", "layer_gradients", ":, :, i:i + rows] for i in down", ":, :, 0:rows] for i in down",
          ("test_layer_gradients",)),
    Fault("a coefficient per layer", "clipping", "record.weighted_sums(weights, weights[units.index])",
          "record.weighted_sums(w := (self.clip_norm / record.squares.sqrt().clamp(min=1e-30)).clamp(max=1.0), w[units.index])"),
    Fault("last physical batch dropped", "units", "    if held:\n        cuts.append", "    if False:\n        cuts.append", ("test_units",)),
    Fault("sums not cleared after a step without units", "clipping",
          "sums, self._sums = self._sums, [None] * len(self.parameters)", "sums = self._sums", ("test_clipping", "test_training")),
    Fault("a NaN unit multiplied by 0", "clipping", "            if not is_whole:\n", "            if False:\n"),
    Fault("a layer used twice", "clipping", "if used[name] != 1:", "if used[name] < 1:", ("test_network_checks",)),
    Fault("a weight used functionally", "network_checks", "if name is not None and name != self._inside and",
          "if False and name != self._inside and", ("test_network_checks",)),
    Fault("values changed in place", "clipping", "if (self.a._version, self.output._version) != self.versions:", "if False:"),
    Fault("an unknown layer let through", "network_checks", "if not is_container and type(module) not in HARMLESS:", "if False:",
          ("test_network_checks",)),
    Fault("a buffer let through", "network_checks", "if any(True for _ in module.buffers(recurse=False)):", "if False:",
          ("test_network_checks",)),
    Fault("rounding of nearly cancelling images ignored", "layer_gradients", "_ROUNDING = 8", "_ROUNDING = 0"),
    Fault("sums of an interrupted step left to the next", "arms", "        self.clipped.take()  # what an interrupted", "        # what an interrupted",
          ("test_training",)),
    Fault("old gradients reach the optimizer", "arms", "        self.model.zero_grad()  # nothing", "        # nothing", ("test_training",)),
    Fault("parameters unfrozen during training", "clipping",
          "if [id(p) for p in self.model.parameters() if p.requires_grad] != list(self._place):", "if False:", ("test_training",)),
    Fault("a step applied before it is counted", "training",
          "        session.step += 1  # before the update: one that is applied is never left uncounted\n        session.optimizer.step()\n",
          "        session.optimizer.step()\n        session.step += 1\n", ("test_training",)),
    Fault("epsilon without the chance to be drawn twice", "accounting", "sampling_prob=sample_rate", "sampling_prob=sample_rate / 2",
          ("test_accounting",)),
    Fault("a self-test that never fails", "selftest", "        if not is_kept:\n            checks", "        if False:\n            checks",
          ("test_selftest",)),
    Fault("a self-test that tries no bound", "selftest", "return most <= 1 + 1e-5,", "return True,", ("test_selftest",)),
    Fault("a shared weight let through", "network_checks", "!= name:\n                checks.refuse(\"each", "== 0:\n                checks.refuse(\"each",
          ("test_network_checks",)),
    Fault("a (B, 1) loss let through", "clipping", "if losses.ndim != 1 or len(losses)", "if len(losses)"),
    Fault("augmentation by place in the batch", "arms", 'runs.random_stream(self.seed, f"augmentation {self.data.names[unit]}", step))\n'
          "                 for unit, own in drawn.items()]",
          'runs.random_stream(self.seed, f"augmentation {place}", step))\n'
          "                 for place, (unit, own) in enumerate(drawn.items())]", ("test_training",)),
    Fault("images of a patient chosen by who else is there", "training_sets", 'f"{seed} {image}".encode()', 'f"{seed} {len(rows)} {image}".encode()',
          ("test_training",)),
    Fault("delta at 1/N let through", "privacy", "if delta >= 1 / n_units:", "if delta >= 2 / n_units:", ("test_privacy", "test_training")),
    Fault("no noise in private mode let through", "arms", 'if mode == "private" and spent > epsilon:', "if False:", ("test_training",)),
    Fault("private labels in the loss called valid", "privacy", 'if pos_weight == "private labels":', "if False:", ("test_privacy", "test_training")),
    Fault("a finished private run trained again", "training", "self.resumed = self._take_up_finished() or self._resume()",
          "self.resumed = self._resume()", ("test_training",)),
    Fault("the loss kept in private checkpoints", "arms", "        if not self.shows_diagnostics:\n            return 0.0, 0\n", "", ("test_training",)),
]


NO_FAULT = Fault("(no fault planted)", "clipping", "", "", tuple(ALL_TESTS))


def catch(fault: Fault) -> tuple[Fault, str]:
    """Return the test that caught a fault, or "" if none did."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("helpers", "data_manifests", "tests/unit"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        path = copy / "helpers" / f"{fault.module}.py"
        source = path.read_text(encoding="utf-8")
        if fault.right and source.count(fault.right) != 1:
            return fault, f"NOT PLANTED: its text stands {source.count(fault.right)} times in {path.name}"
        path.write_text(source.replace(fault.right, fault.wrong) if fault.right else source, encoding="utf-8")
        for names in filter(None, (fault.tests, [name for name in ALL_TESTS if name not in fault.tests])):
            tests = [f"tests/unit/{name}.py" for name in names]
            done = subprocess.run([sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", *tests],
                                  cwd=copy, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                                  env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(copy)})
            if done.returncode == 1:
                return fault, _red_test(done.stdout)
            if done.returncode:
                return fault, f"NOT TRIED: pytest ended with {done.returncode}: {done.stdout[-300:]}"
    return fault, ""


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
    if red := catch(NO_FAULT)[1]:
        print(f"Expected the tests to pass while no fault is planted; got {red}. Mend that first.", file=sys.stderr)
        return 1
    n_caught = 0
    print(f"{'fault':58} caught by", flush=True)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for fault, test in pool.map(catch, faults):
            is_caught = bool(test) and not test.startswith("NOT")
            n_caught += is_caught
            print(f"{fault.name:58} {test or 'NOT CAUGHT'}", flush=True)
    print(f"{n_caught} of {len(faults)} caught")
    return 0 if n_caught == len(faults) else 1


if __name__ == "__main__":
    sys.exit(main())
