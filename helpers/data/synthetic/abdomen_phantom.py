"""Draw phantoms of the upper abdomen: one CT volume in Hounsfield units from a few dozen numbers.

In: a namespace of shapes (see `draw_volume`), the grain. Out: a volume. Knows nothing of patients,
sites or labels; those are `abdomen_cohort`'s.

Coordinates are millimetres from the middle of the volume: z from head (-) to feet (+), y from front
(-) to back (+), x from the patient's right (-) to left (+), as a radiologist sees axial slices.
Voxels are made as pixels are in `chest_phantom`.
"""

from types import SimpleNamespace

import numpy as np

from helpers.data.synthetic.chest_phantom import step, wave

FAT, MUSCLE, FLUID, AIR = -100.0, 55.0, 12.0, -1000.0  # Hounsfield units
_PLACES = np.linspace(0, 1, 9, dtype=np.float32)  # along the pancreas, of the balls it is made of


def draw_volume(
    p: SimpleNamespace, noise: np.ndarray, spacing_mm: tuple[float, float, float]
) -> np.ndarray:
    """Return one volume (depth, height, width), float32 Hounsfield units.

    Args:
        p: numbers by the names that `abdomen_cohort` gives them, lengths in mm, densities in
            Hounsfield units; `bowel` is a small (a, b, c) field.
        noise: (depth, height, width) standard normal grain; its shape is the volume's.
        spacing_mm: from voxel to voxel, along depth, height, width.
    """
    z, y, x = _grid(p, noise.shape, spacing_mm)
    volume = _trunk(z, y, x, p, noise.shape)
    for organ in (_liver, _spleen_and_kidneys, _vessels_and_spine, _stomach, _pancreas):
        organ(volume, z, y, x, p)
    return _scan(volume, noise, z, y, x, p)


def pancreas_axis(p: SimpleNamespace, t: np.ndarray | float) -> tuple:
    """Return (z, y, x) of the pancreas' axis, in mm of the phantom, from the head (t = 0) to the
    tail (t = 1).
    """
    return (
        p.pancreas_z + 22 - p.pancreas_rise * t,
        p.pancreas_y + 8 - p.pancreas_arch * t * (1 - t) + 20 * t,
        p.pancreas_x - 38 + 116 * t,
    )


def lesion_place(p: SimpleNamespace) -> tuple[float, float, float]:
    """Return (z, y, x) of the lesion's centre in mm from the middle of the volume."""
    centre = pancreas_axis(p, p.lesion_t)
    return tuple(
        float(value * p.size + shift)
        for value, shift in zip(centre, (p.shift_z, p.shift_y, p.shift_x))
    )


def _grid(p: SimpleNamespace, shape: tuple, spacing_mm: tuple) -> list[np.ndarray]:
    """Return z, y and x in mm of the phantom, each with its own dimension of the volume."""
    axes = []
    for axis, shift in enumerate((p.shift_z, p.shift_y, p.shift_x)):
        line = (np.arange(shape[axis], dtype=np.float32) - (shape[axis] - 1) / 2) * spacing_mm[axis]
        axes.append(
            ((line - shift) / p.size)
            .reshape([-1 if other == axis else 1 for other in range(3)])
            .astype(np.float32)
        )
    return axes


def _ball(
    z: np.ndarray, y: np.ndarray, x: np.ndarray, centre: tuple, radii: tuple, edge_mm: float = 5.0
) -> np.ndarray:
    """Return an ellipsoid, 1 inside and 0 outside, with a soft edge."""
    r_2 = sum(
        ((value - middle) / radius) ** 2 for value, middle, radius in zip((z, y, x), centre, radii)
    )
    return step((1 - r_2) * (1.5 * min(radii) / edge_mm))


def _fill(volume: np.ndarray, share: np.ndarray, density: np.ndarray | float) -> None:
    """Replace a share of each voxel by tissue of a density."""
    volume += share * (density - volume)


def _trunk(
    z: np.ndarray, y: np.ndarray, x: np.ndarray, p: SimpleNamespace, shape: tuple
) -> np.ndarray:
    """Return couch, skin, fat, the muscular wall and the bowel in the fat within."""
    volume = np.full(shape, AIR, np.float32)
    couch = (y - (p.body_y + 14 + 0.0006 * x * x)) / 4
    volume += p.couch * step(3 - 3 * couch * couch)
    for inset, density in ((0.0, FAT), (p.fat_mm, MUSCLE), (p.fat_mm + 13, None)):
        across, down = x / (p.body_x - inset), y / (p.body_y - inset)
        across, down = across * across, down * down
        inside = step((1 - (across * across + down * down + 0.6 * across * down)) * 12) + 0 * z
        _fill(
            volume,
            inside,
            (
                FAT + 10 + p.bowel_hu * np.maximum(enlarge(p.bowel, shape), -0.5)
                if density is None
                else density
            ),
        )
    return volume


def _liver(
    volume: np.ndarray, z: np.ndarray, y: np.ndarray, x: np.ndarray, p: SimpleNamespace
) -> None:
    """Draw both lobes."""
    right = _ball(z, y, x, (p.liver_z, -5.0, -82.0), (p.liver, p.liver + 4, p.liver - 8))
    left = _ball(z, y, x, (p.liver_z - 12, -48.0, -15.0), (38.0, 28.0, 70.0))
    _fill(volume, np.maximum(right, left), p.liver_hu)


def _spleen_and_kidneys(
    volume: np.ndarray, z: np.ndarray, y: np.ndarray, x: np.ndarray, p: SimpleNamespace
) -> None:
    """Draw the spleen and both kidneys with their hilus."""
    _fill(
        volume,
        _ball(z, y, x, (p.spleen_z, 42.0, 103.0), (p.spleen, 0.75 * p.spleen, 26.0)),
        p.spleen_hu,
    )
    for side, low in ((-1, 38.0), (1, 26.0)):
        _fill(volume, _ball(z, y, x, (low, 52.0, 62.0 * side), (50.0, 26.0, 27.0)), p.kidney_hu)
        _fill(volume, _ball(z, y, x, (low, 46.0, 50.0 * side), (22.0, 12.0, 14.0)), 0.0)


def _vessels_and_spine(
    volume: np.ndarray, z: np.ndarray, y: np.ndarray, x: np.ndarray, p: SimpleNamespace
) -> None:
    """Draw spine, aorta, vena cava and the mesenteric artery in front of them."""
    spine = step((1 - ((y - 74) / 24) ** 2 - (x / 24) ** 2) * 7) + 0 * z
    _fill(volume, spine, 190 + 60 * wave(z / 33 + p.phase))
    for across, down, radius, density in (
        (9.0, 42.0, p.aorta, p.aorta_hu),
        (-20.0, 42.0, 11.0, 0.75 * p.aorta_hu),
        (3.0, 18.0, 4.5, p.aorta_hu),
    ):
        _fill(
            volume,
            step((1 - ((y - down) / radius) ** 2 - ((x - across) / radius) ** 2) * 3) + 0 * z,
            density,
        )


def _stomach(
    volume: np.ndarray, z: np.ndarray, y: np.ndarray, x: np.ndarray, p: SimpleNamespace
) -> None:
    """Draw the stomach with its content, and the duodenum around the head of the pancreas."""
    for radii, density in (((42.0, 32.0, 44.0), MUSCLE + 15), ((37.0, 27.0, 39.0), p.stomach_hu)):
        _fill(volume, _ball(z, y, x, (-38.0, -52.0, 62.0), radii), density)
    head = pancreas_axis(p, 0.0)
    _fill(
        volume,
        _ball(z, y, x, (head[0] + 2, head[1], head[2] - 22), (30.0, 11.0, 10.0)),
        p.duodenum_hu,
    )


def _pancreas(
    volume: np.ndarray, z: np.ndarray, y: np.ndarray, x: np.ndarray, p: SimpleNamespace
) -> None:
    """Draw the pancreas with its duct, a lesion and a cyst."""
    # where it can be: a part of the volume
    window = [
        slice(*np.searchsorted(line.ravel(), [low, high]))
        for line, low, high in zip(
            (z, y, x),
            (p.pancreas_z - 75, p.pancreas_y - 70, p.pancreas_x - 95),
            (p.pancreas_z + 75, p.pancreas_y + 65, p.pancreas_x + 125),
        )
    ]
    z, y, x = z[window[0]], y[:, window[1]], x[:, :, window[2]]
    part = volume[tuple(window)]
    gland, duct = np.zeros_like(part), np.zeros_like(part)
    for t in _PLACES:
        radius = p.pancreas * (1.35 - 0.75 * t + 0.5 * t * t)
        centre = pancreas_axis(p, t)
        np.maximum(
            gland, _ball(z, y, x, centre, (1.25 * radius, radius, 1.3 * radius), 4.0), out=gland
        )
        if p.duct and t >= p.duct_from:
            np.maximum(duct, _ball(z, y, x, centre, (p.duct, p.duct, 9.0), 4.0), out=duct)
    _fill(part, gland, p.pancreas_hu + 0.125 * p.bowel_hu * wave(x / 17 + y / 23 + p.phase))
    _fill(part, np.minimum(duct, gland), FLUID)
    if p.cyst:
        _fill(part, _ball(z, y, x, pancreas_axis(p, p.cyst_t), (p.cyst,) * 3, 3.0), FLUID)
    if p.lesion:
        centre = pancreas_axis(p, p.lesion_t)
        mass = _ball(z, y, x, centre, (p.lesion, p.lesion, p.lesion), 7.0)
        _fill(part, mass, p.pancreas_hu - p.lesion_contrast)


def _scan(
    volume: np.ndarray,
    noise: np.ndarray,
    z: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    p: SimpleNamespace,
) -> np.ndarray:
    """Return what a scanner makes of it.

    Thick slices, a smoothing kernel, noise that grows inwards, a wrong zero.
    """
    thick = np.pad(volume, ((1, 1), (0, 0), (0, 0)), mode="edge")
    volume = volume + p.slice_blur * (0.5 * (thick[:-2] + thick[2:]) - volume)
    deep = np.maximum(1.3 - (x / 190) ** 2 - (y / 140) ** 2, 0.2) + 0 * z
    volume = volume + p.noise * deep * noise
    for axis in (1, 2):
        wide = np.pad(
            volume, [(1, 1) if other == axis else (0, 0) for other in range(3)], mode="edge"
        )
        low, high = (wide[:, :-2], wide[:, 2:]) if axis == 1 else (wide[:, :, :-2], wide[:, :, 2:])
        volume = volume + p.kernel_blur * (0.5 * (low + high) - volume)
    return (volume + p.offset).astype(np.float32)


def enlarge(field: np.ndarray, shape: tuple) -> np.ndarray:
    """Return a small (a, b, c) field interpolated smoothly to a shape."""
    for axis, size in enumerate(shape):
        position = np.linspace(0, field.shape[axis] - 1, size, dtype=np.float32)
        low = np.minimum(position.astype(int), field.shape[axis] - 2)
        t = position - low.astype(np.float32)
        t = (t * t * (3 - 2 * t)).reshape([-1 if other == axis else 1 for other in range(3)])
        first, second = np.take(field, low, axis), np.take(field, low + 1, axis)
        field = first + t * (second - first)
    return field.astype(np.float32)
