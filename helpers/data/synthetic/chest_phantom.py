"""Draw chest phantoms: films of 8 bit from a few dozen numbers each.

In: a dict of shapes (see `draw_films`), a generator for the grain. Out: images. Knows nothing of
patients, sites or labels; those are `chest_cohort`'s.

Coordinates are normalised: x from -1 (the viewer's left, the patient's RIGHT) to 1, y from -1
(head) to 1 (feet); side 0 is the patient's right. Pixels are made with + - * / min max and rounding
only, all of which IEEE 754 rounds correctly: transcendental functions differ in the last bit
between processors and would let a rounded pixel differ.
"""

from types import SimpleNamespace

import numpy as np

# blur and sharpening reach as far, in parts of the image, as they do at this size
_REFERENCE_PX = 48
_PIXELS_AT_ONCE = 32 * 48**2  # few enough to stay in the cache
_LUNG_COLUMNS = 0.62  # the share of the width, from its own side, in which a lung is looked for


def draw_films(
    shapes: dict[str, np.ndarray], grain: np.random.Generator, image_px: int
) -> np.ndarray:
    """Draw one film per row of the shapes.

    Args:
        shapes: name -> float32, (n, 1, 1), or (n, 2, 1, 1) for the patient's right and left;
            `field` is (n, k, k). The names are those made by `chest_shapes`; lengths are in
            normalised coordinates, densities in parts of the window.
        grain: generator of the pixel noise; films are drawn in order, so that the first films do
            not depend on how many follow.
        image_px: height and width in pixels.

    Returns:
        (n, image_px, image_px) uint8, fixed window, dense parts bright (dark where `inverted` is
        1).
    """
    n, at_once = len(shapes["scale"]), max(1, _PIXELS_AT_ONCE // image_px**2)
    films = np.empty((n, image_px, image_px), np.uint8)
    for start in range(0, n, at_once):
        p = SimpleNamespace(
            **{name: value[start : start + at_once] for name, value in shapes.items()}
        )
        chest = _chest(p, image_px)
        noise = p.noise * grain.standard_normal(chest.shape, dtype=np.float32)
        films[start : start + at_once] = _expose(chest, noise, p)
    return films


def step(t: np.ndarray) -> np.ndarray:
    """Return a smooth step from 0 (t <= -3) to 1 (t >= 3), in place of a logistic function."""
    s = t * np.float32(1 / 6)
    s += 0.5
    np.clip(s, 0, 1, out=s)
    slope = s * -2
    slope += 3
    s *= s
    s *= slope
    return s


def bump(squared_radius: np.ndarray) -> np.ndarray:
    """Return a smooth bump, 1 at 0 and 0 from 4 on, in place of exp(-squared_radius)."""
    t = squared_radius * -0.25
    t += 1
    np.maximum(t, 0, out=t)
    t *= t
    t *= t
    return t


def wave(turns: np.ndarray) -> np.ndarray:
    """Return a wave of period 1, 1 at 0 and -1 at one half, in place of a cosine."""
    t = turns - np.rint(turns)
    np.abs(t, out=t)
    slope = t * 4
    slope -= 3
    t *= t
    t *= 8
    t *= slope  # 1 - 2 s^2 (3 - 2 s) with s = 2 |t|
    t += 1
    return t


def box_mean(image: np.ndarray, radius: int) -> np.ndarray:
    """Return the mean over a square of 2 radius + 1 pixels; edges are repeated."""
    size = 2 * radius + 1
    total = np.pad(image, ((0, 0), (radius + 1, radius), (0, 0)), mode="edge").cumsum(axis=1)
    image = total[:, size:] - total[:, :-size]
    total = np.pad(image, ((0, 0), (0, 0), (radius + 1, radius)), mode="edge").cumsum(axis=2)
    return (total[:, :, size:] - total[:, :, :-size]) / size**2


def _enlarge(field: np.ndarray, image_px: int) -> np.ndarray:
    """Return (n, k, k) values interpolated to (n, image_px, image_px), smoothly along rows and
    columns.
    """
    position = np.linspace(0, field.shape[1] - 1, image_px, dtype=np.float32)
    low = np.minimum(position.astype(int), field.shape[1] - 2)
    t = position - low.astype(np.float32)
    t = t * t * (3 - 2 * t)
    rows = field[:, low] + t[:, None] * (field[:, low + 1] - field[:, low])
    return rows[:, :, low] + t * (rows[:, :, low + 1] - rows[:, :, low])


def _chest(p: SimpleNamespace, image_px: int) -> np.ndarray:
    """Return the density (n, image_px, image_px) of chest, findings and distractors."""
    line = np.linspace(-1, 1, image_px, dtype=np.float32)
    y = line[:, None] * p.scale - p.shift_y
    x_film = line * p.scale + (line[:, None] * p.tilt - p.shift_x)
    x = x_film - p.kyphosis * y
    midline_distance, x_squared = np.abs(x), x * x
    chest = _body(y, midline_distance, x_squared, p)
    chest += _heart(x, y, p)
    breast = ((midline_distance - 0.42) / 0.26) ** 2 + ((y - 0.25) / 0.24) ** 2
    chest += p.breast * bump(breast * breast)
    vessels = wave(2 * (y - 0.02) / (midline_distance + 0.2) + p.phase)
    hila = bump((midline_distance * 5 - 1.35) ** 2 + (y / 0.33) ** 2)
    chest += hila * (p.congestion + (0.02 + 0.3 * p.congestion) * vessels)
    width = round(_LUNG_COLUMNS * image_px)
    for side, columns in enumerate((slice(0, width), slice(image_px - width, None))):
        of_side = SimpleNamespace(
            **{name: v[:, side] if v.ndim == 4 else v for name, v in vars(p).items()}
        )
        chest[:, :, columns] += _lung(x[:, :, columns], y, of_side, outwards=2 * side - 1)
    wire = x_film - (p.line_x + p.line_slope * y + 0.1 * wave(0.64 * y + p.phase))
    chest += p.line * (y < p.line_end) * bump((wire * 40) ** 2)
    return chest


def _body(
    y: np.ndarray, midline_distance: np.ndarray, x_squared: np.ndarray, p: SimpleNamespace
) -> np.ndarray:
    """Return the density of soft tissue, ribs, clavicles and spine."""
    shoulders = np.maximum(8 * (y + 1) - 3.6 * x_squared, 2.5 - 10 * midline_distance)
    trunk = 6 - 6 * (y / 1.35) ** 4 - (x_squared * (2.45 / p.body**2)) ** 2
    ribs = wave(p.rib_count * (y + 0.35 * x_squared - 0.1 * midline_distance) + p.phase)
    bones = p.rib_contrast * ribs * (midline_distance > 0.12)
    bones += 0.07 * bump((y * 20 + 13.2 + 5 * midline_distance) ** 2)  # clavicles
    bones += (0.12 + 0.03 * wave(3.5 * y)) * bump(x_squared / 0.09**2)  # spine
    bones += p.density
    return step(np.minimum(trunk, shoulders)) * bones


def _heart(x: np.ndarray, y: np.ndarray, p: SimpleNamespace) -> np.ndarray:
    """Return the density added by heart, mediastinum and aortic knob."""
    growth = p.heart - 0.27
    across = (x - (0.11 + 0.35 * growth + 0.22 * (y - 0.20))) / p.heart
    down = (y - 0.20) / (0.30 + 0.5 * growth)
    heart = 0.28 * step(7 - 7 * down * down - 7 * across * across)
    heart += 0.12 * bump(((x - 0.06) / 0.13) ** 2 + ((y + 0.25) / 0.35) ** 2)
    heart += p.aorta * bump(((x - 0.13) / 0.07) ** 2 + ((y + 0.40) / 0.09) ** 2)
    return heart


def _lung(x: np.ndarray, y: np.ndarray, p: SimpleNamespace, outwards: int) -> np.ndarray:
    """Return the density of a lung (negative: air) with all that lies in it.

    `outwards` is -1 for the right one.
    """
    from_axis = x - (outwards * (0.40 + 0.08 * y) + p.asymmetry)
    across, down_2 = (
        from_axis * (1 / (p.lung_width * (1 + 0.15 * y))),
        ((y + 0.12) / p.lung_height) ** 2,
    )
    across_2 = across * across
    dome = (
        p.lung_height * 0.72 - 0.10 - p.inspiration - p.volume_loss - (0.05 if outwards < 0 else 0)
    )
    above = 0.10 * across_2 + (dome - y)
    inside = 5 - 2.5 * (down_2 + down_2 * down_2) - 2.5 * (across_2 + across_2 * across_2)
    lung = step(np.minimum(inside, 18 * above))
    meniscus = p.effusion_height + (0.45 * outwards * p.effusion_height) * np.clip(across, -1, 1)
    content = p.effusion * step(14 * (meniscus - above)) - p.aeration
    content += p.blunting * step(1.12 - 14 * above)
    opacity = bump(
        ((from_axis - p.infiltrate_x) / (p.infiltrate_radius * p.infiltrate_width)) ** 2
        + ((y - p.infiltrate_y) / p.infiltrate_radius) ** 2
    )
    content += p.infiltrate * opacity * (1 + 0.35 * wave(2.7 * x + (1.4 * y + p.phase)))
    plate = (y - p.atelectasis_y - p.atelectasis_slope * from_axis) / p.atelectasis_width
    content += p.atelectasis * bump(plate * plate)
    content += p.blob * bump(
        ((from_axis - p.blob_x) / p.blob_radius) ** 2 + ((y - p.blob_y) / p.blob_radius) ** 2
    )
    band = (y - p.band_y) * 33 - (p.band_slope * 33) * from_axis
    content += p.band * bump(band * band)
    return lung * content


def _expose(chest: np.ndarray, noise: np.ndarray, p: SimpleNamespace) -> np.ndarray:
    """Return films of 8 bit: blur, field, noise, sharpening, tone, inversion, collimation."""
    image_px = chest.shape[1]
    radius = max(1, round(image_px / _REFERENCE_PX))
    if p.blur.any():
        chest = (1 - p.blur) * chest + p.blur * box_mean(chest, radius)
    film = p.contrast * chest + _enlarge(p.field, image_px) + noise
    if p.sharpening.any():
        film += p.sharpening * (film - box_mean(film, 3 * radius))
    film = np.clip((0.78 * film + 0.13) + p.offset, 0, 1)
    film = film * p.tone / (1 + film * (p.tone - 1))  # a gamma curve by division alone
    film += p.inverted * (1 - 2 * film)
    film *= np.abs(np.linspace(-1, 1, image_px, dtype=np.float32)) <= p.frame
    return np.rint(film * 255).astype(np.uint8)
