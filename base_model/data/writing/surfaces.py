"""Compositional images: text on paper, a board, a sign or a screen that fills most of a photograph.

The thing is rendered flat in finer detail, then seen by a camera: turned in space, lit as the photograph is, blurred
and grained as the photograph was measured to be, with its shadow on what is behind it. All boxes go through the same
homography. Shapes: HW3 pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from base_model.data.writing.faces import Face
from base_model.data.writing.grounds import contrast, ground, inks_on, noise, varied
from base_model.data.writing.photographs import Taken, cut_out, measured
from base_model.data.writing.text_lines import Align, Placed, as_line, fitted, placed, render_lines
from base_model.data.writing.wording import surface_captions
from base_model.data.writing.written_image import Colour, Line, Photographs, Quad, Unwritable, WrittenImage, bounds

DETAIL = 1.5
"""pixels of the flat thing for one of the image"""
OWN_BLUR = 0.3
"""sigma in pixels of an edge of the flat thing once it is seen by the camera"""
LEGIBLE = 3.0
"""least contrast ratio of the ink and what is round it, in the finished image (WCAG 2.1, large text)"""
ANGLES = (22.0, 18.0, 4.0)
"""degrees: most of turning to the side and tilting, and the standard deviation of leaning"""


@dataclass(frozen=True)
class Surface:
    """A thing that is written on."""

    name: str
    grounds: tuple[str, ...]
    inks: tuple[str, ...] = ()
    """() = all that are legible"""
    texture: str = "paper"
    edge: str = ""
    """wood, metal or bezel round it; "" for none"""
    corner: float = 0.0
    """radius of its corners, of the shorter side"""
    shine: float = 1.0
    """how much of the light of the photograph it takes; a screen has its own"""
    shadow: float = 1.0
    """how far it stands off what is behind it"""
    texts: str = "notes"
    """list of the vocabulary that it shows, or `paragraph`"""


SURFACES = (
    Surface("paper", ("white", "cream", "light grey"), ("black", "dark blue", "dark red", "dark green", "brown"),
            shadow=0.6, texts="paragraph"),
    Surface("paper", ("yellow", "pink", "light blue", "light green"), ("black", "dark blue", "dark red"), shadow=0.8),
    Surface("chalkboard", ("dark green", "dark grey"), ("white", "yellow", "pink", "light blue", "light green"),
            edge="wood", shadow=1.2),
    Surface("whiteboard", ("white",), ("black", "blue", "dark blue", "red", "green", "dark green"), texture="gradient",
            edge="metal", corner=0.02),
    Surface("sign", ("dark blue", "dark green", "red", "white", "yellow", "brown", "black", "blue", "cream"),
            texture="gradient", corner=0.06, shadow=1.4, texts="signs"),
    Surface("sign", ("brown", "beige"), ("white", "cream", "black"), edge="wood", shadow=1.4, texts="signs"),
    Surface("screen", ("white", "light grey", "black", "dark grey", "dark blue"), texture="plain", edge="bezel",
            corner=0.03, shine=0.35, texts="paragraph"),
)  # fmt: skip
EDGES: dict[str, Colour] = {"wood": (128, 88, 54), "metal": (186, 189, 194), "bezel": (24, 25, 28)}


@dataclass(frozen=True)
class Flat:
    """The thing as it would be scanned."""

    pixels_HW3: np.ndarray
    shape_HW: np.ndarray
    """255 where it is"""
    ink_HW: np.ndarray
    """255 where text is"""
    rows: tuple[Placed, ...]
    ink: tuple[str, Colour]
    ground: str


def chosen_surface(rng: np.random.Generator) -> Surface:
    """One of the things, each name equally often."""
    name = str(rng.choice(list(dict.fromkeys(surface.name for surface in SURFACES))))
    chosen = [surface for surface in SURFACES if surface.name == name]
    return chosen[int(rng.integers(len(chosen)))]


def write_on_surface(
    rng: np.random.Generator, surface: Surface, text: str, language: str, face: Face, photographs: Photographs,
    size: tuple[int, int],
) -> WrittenImage:  # fmt: skip
    """A text on a thing in a photograph. Raises Unwritable when it would not fit, be too small or hard to read."""
    pixels, index = cut_out(photographs, rng, size)
    taken = measured(pixels)
    flat_size = (size[0] * float(rng.uniform(0.68, 0.98)), size[1] * float(rng.uniform(0.68, 0.98)))
    if surface.name == "sign" and rng.random() < 0.6:
        flat_size = (flat_size[0] * 0.6, flat_size[1])
    flat = rendered_flat(rng, surface, text, face, (round(flat_size[0] * DETAIL), round(flat_size[1] * DETAIL)))
    camera = homography(rng, flat.pixels_HW3.shape[:2], size, float(rng.uniform(0.8, 1.04)))
    lines = tuple(seen(as_line(row, *flat.ink), camera) for row in flat.rows)
    require_readable(lines, face, taken.blur, size)
    finished, ink_HW = put_into(rng, taken, flat, camera, surface)
    if legibility(finished, ink_HW) < LEGIBLE:
        raise Unwritable(face.name, "too little contrast in the light of the photograph")
    captions = surface_captions(lines, text, language, size, surface.name, flat.ground, photographs.caption(index))
    facts = {"photograph": index, "surface": surface.name, "ground": flat.ground}
    kind = f"compositional/{surface.name}"
    return WrittenImage(finished, kind, language, text, lines, captions, facts)


def inks_of(surface: Surface, ground_name: str) -> list[str]:
    """The inks of a thing that are legible on one of its grounds."""
    legible = inks_on(ground_name)
    return [name for name in (surface.inks or legible) if name in legible]


def rendered_flat(rng: np.random.Generator, surface: Surface, text: str, face: Face, size: tuple[int, int]) -> Flat:
    """The thing with its text, not yet in the world. Raises Unwritable when the text does not fit."""
    height, width = size
    ground_name = str(rng.choice(surface.grounds))
    ink_name = str(rng.choice(inks_of(surface, ground_name)))
    ink = varied(ink_name, rng)
    pixels = ground(rng, size, varied(ground_name, rng), surface.texture)
    image = Image.fromarray(pixels)
    edge = round(min(size) * float(rng.uniform(0.025, 0.05))) if surface.edge else 0
    margin = edge + round(min(size) * float(rng.uniform(0.06, 0.1)))
    weight = int(rng.choice(face.weights))
    leading = float(rng.uniform(1.2, 1.5))
    align: Align = "centre" if surface.name == "sign" or rng.random() < 0.4 else "left"
    box = (width - 2 * margin, height - 2 * margin)
    largest = box[1] if surface.name == "sign" else round(height * float(rng.uniform(0.07, 0.3)))
    least = math.ceil(DETAIL * face.least)
    fit = fitted(text, face, weight, box, (least, max(least, largest)), leading)
    if fit is None:
        raise Unwritable(face.name, f"too long for a {surface.name} at the least size of the face")
    kind, lines = fit
    used = (len(lines) - 1) * kind.size * leading + 1.2 * kind.size
    top = margin + (box[1] - used) * (0.5 if surface.name == "sign" else float(rng.choice([0.0, 0.25, 0.5])))
    rows = placed(lines, kind, (margin, top, box[0]), leading, align)
    _finish_edges(rng, image, surface, edge, ink)
    text_only = Image.new("RGB", (width, height))
    render_lines(text_only, rows, (255, 255, 255))
    mask = text_only.getchannel(0)
    if surface.name == "chalkboard":  # chalk leaves gaps
        gaps = np.clip(200 + 60 * noise(rng, size, 2), 0, 255).astype(np.uint8)
        mask = Image.fromarray(np.minimum(np.asarray(mask), gaps))
    image.paste(ink, (0, 0), mask)
    shape = Image.new("L", (width, height))
    ImageDraw.Draw(shape).rounded_rectangle((0, 0, width - 1, height - 1), surface.corner * min(size), fill=255)
    return Flat(np.asarray(image), np.asarray(shape), np.asarray(mask), tuple(rows), (ink_name, ink), ground_name)


def _finish_edges(rng: np.random.Generator, image: Image.Image, surface: Surface, edge: int, ink: Colour) -> None:
    """Frames of boards and screens, and the line round a sign."""
    pen, (width, height) = ImageDraw.Draw(image), image.size
    if surface.edge:
        red, green, blue = EDGES[surface.edge]
        shift = int(rng.integers(-12, 13))
        dark, light = ((red + by, green + by, blue + by) for by in (shift - 24, shift + 18))
        pen.rectangle((0, 0, width - 1, height - 1), outline=(red + shift, green + shift, blue + shift), width=edge)
        pen.rectangle((edge - 2, edge - 2, width - edge + 1, height - edge + 1), outline=dark, width=2)
        pen.rectangle((0, 0, width - 1, height - 1), outline=light, width=2)
    elif surface.name == "sign" and rng.random() < 0.7:
        inset = round(0.025 * min(image.size))
        radius = max(1.0, surface.corner * min(image.size) - inset)
        box = (inset, inset, width - 1 - inset, height - 1 - inset)
        pen.rounded_rectangle(box, radius, outline=ink, width=max(2, inset // 2))


def homography(rng: np.random.Generator, flat: tuple[int, int], size: tuple[int, int], fill: float) -> np.ndarray:
    """From pixels of the flat thing to those of the image, as a camera sees it that is turned about three axes.

    `fill` is the share of the image's height or width that the thing takes.
    """
    import cv2

    turned, tilted = (math.radians(float(rng.uniform(-most, most))) for most in ANGLES[:2])
    leaning = math.radians(float(rng.normal(0.0, ANGLES[2])))
    rotation = _about("y", turned) @ _about("x", tilted) @ _about("z", leaning)
    height, width = flat
    corners = np.asarray([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    points = np.c_[corners - (width / 2, height / 2), np.zeros(4)] @ rotation.T
    distance = float(rng.uniform(1.6, 3.0)) * max(flat)
    seen_at = points[:, :2] * (distance / (points[:, 2:] + distance))
    low, high = seen_at.min(0), seen_at.max(0)
    scale = fill * min(size[1] / (high[0] - low[0]), size[0] / (high[1] - low[1]))
    free = np.asarray([size[1], size[0]]) - scale * (high - low)
    shift = free * rng.uniform(0.2, 0.8, 2)
    target = ((seen_at - low) * scale + shift).astype(np.float32)
    return np.asarray(cv2.getPerspectiveTransform(corners, target))


def _about(axis: str, angle: float) -> np.ndarray:
    """The rotation about an axis."""
    c, s = math.cos(angle), math.sin(angle)
    rows = {"x": [[1, 0, 0], [0, c, -s], [0, s, c]], "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
            "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]]}  # fmt: skip
    return np.asarray(rows[axis], dtype=float)


def seen(line: Line, camera: np.ndarray) -> Line:
    """A line of the flat thing as the camera sees it."""
    quads = np.asarray([line.quad, *(quad for _, quad in line.characters)], dtype=float).reshape(-1, 2)
    points = np.c_[quads, np.ones(len(quads))] @ camera.T
    boxes = (points[:, :2] / points[:, 2:]).reshape(-1, 4, 2)
    flat_height = line.quad[3][1] - line.quad[0][1]
    scale = float(np.linalg.norm(boxes[0, 3] - boxes[0, 0]) + np.linalg.norm(boxes[0, 2] - boxes[0, 1])) / 2
    characters = tuple((c, _quad(box)) for (c, _), box in zip(line.characters, boxes[1:], strict=True))
    size = line.size * scale / flat_height
    return Line(line.text, _quad(boxes[0]), characters, line.face, line.style, line.weight, size, line.colour, line.ink)


def _quad(box: np.ndarray) -> Quad:
    return tuple((float(x), float(y)) for x, y in box)


def require_readable(lines: tuple[Line, ...], face: Face, blur: float, size: tuple[int, int]) -> None:
    """Raises Unwritable when a line leaves the image, or is too small for its face and the photograph's blur."""
    left, top, right, bottom = bounds([quad for line in lines for _, quad in line.characters])
    if left < 1 or top < 1 or right > size[1] - 1 or bottom > size[0] - 1:
        raise Unwritable(face.name, "a line would leave the image")
    if min(line.size for line in lines) < face.least + 6.0 * max(0.0, blur - 1.0):
        raise Unwritable(face.name, "smaller than the least size of the face once it is in the photograph")


def put_into(
    rng: np.random.Generator, taken: Taken, flat: Flat, camera: np.ndarray, surface: Surface
) -> tuple[np.ndarray, np.ndarray]:
    """The photograph with the thing in it, and where its ink is [H, W]."""
    import cv2

    height, width = taken.pixels_HW3.shape[:2]
    layers = np.dstack([flat.pixels_HW3, flat.ink_HW])
    warped = cv2.warpPerspective(
        layers, camera, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    shape = cv2.warpPerspective(flat.shape_HW, camera, (width, height), flags=cv2.INTER_LINEAR)
    blur = math.sqrt(max(0.0, taken.blur**2 - OWN_BLUR**2))
    if blur > 0.15:
        warped, shape = (cv2.GaussianBlur(layer, (0, 0), blur) for layer in (warped, shape))
    share = shape.astype(np.float32) / np.float32(255.0)
    shade = lit(rng, taken, surface)
    tint = 1.0 + 0.3 * surface.shine * (taken.tint - 1.0)
    grain = np.float32(taken.noise) * noise(rng, (height, width), 1)
    left = shadow(rng, shape, surface)
    planes = []  # one colour after the other: three times as fast as together
    for channel in range(3):
        thing = warped[..., channel] * (shade * tint[channel]) + grain
        behind = taken.pixels_HW3[..., channel] * left
        planes.append(cv2.convertScaleAbs(np.maximum(behind + share * (thing - behind), 0.0)))
    finished = np.asarray(cv2.merge(planes))
    if rng.random() < 0.25:
        content = cv2.imencode(".jpg", finished[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 96))])[1]
        finished = np.ascontiguousarray(np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR))[..., ::-1])
    return finished, np.asarray(warped[..., 3])


def lit(rng: np.random.Generator, taken: Taken, surface: Surface) -> np.ndarray:
    """float32 [H, W]: how bright the thing is in each part of the photograph, with a slope of its own."""
    height, width = taken.light_HW.shape
    angle = float(rng.uniform(0, 2 * np.pi))
    x, y = np.linspace(-0.5, 0.5, width, dtype=np.float32), np.linspace(-0.5, 0.5, height, dtype=np.float32)
    slope = np.float32(0.2 * np.cos(angle)) * x[None] + np.float32(0.2 * np.sin(angle)) * y[:, None] + np.float32(1.0)
    exposure = np.float32(np.clip(0.62 + 0.75 * taken.exposure, 0.68, 1.06))
    light = np.clip(exposure * slope * taken.light_HW, 0.45, 1.15)
    return np.asarray(np.float32(surface.shine) * (light - np.float32(1.0)) + np.float32(1.0))


def shadow(rng: np.random.Generator, shape_HW: np.ndarray, surface: Surface) -> np.ndarray:
    """What is left of the light behind the thing: a soft shadow to one side, and a narrow one where it touches."""
    import cv2

    height, width = shape_HW.shape
    side = min(height, width)
    quarter = cv2.resize(shape_HW, (max(1, width // 4), max(1, height // 4)), interpolation=cv2.INTER_AREA)
    far = surface.shadow * side * 0.012
    move = np.asarray([[1, 0, float(rng.uniform(-1, 1)) * far / 4], [0, 1, far / 4]], np.float32)
    soft = cv2.warpAffine(quarter, move, (quarter.shape[1], quarter.shape[0]), borderMode=cv2.BORDER_REPLICATE)
    soft = cv2.GaussianBlur(soft, (0, 0), max(0.5, far / 4))
    touch = cv2.GaussianBlur(quarter, (0, 0), max(0.4, side * 0.003 / 4))
    dark = 0.4 * soft.astype(np.float32) + 0.25 * touch.astype(np.float32)
    return np.asarray(1.0 - cv2.resize(dark, (width, height), interpolation=cv2.INTER_LINEAR) / 255.0)


def legibility(pixels_HW3: np.ndarray, ink_HW: np.ndarray) -> float:
    """The contrast ratio of the mean colour of the ink and of the ring round it, as they came out."""
    import cv2

    near = cv2.dilate(ink_HW, np.ones((3, 3), np.uint8))
    ring = cv2.dilate(near, np.ones((5, 5), np.uint8)) >= 60
    inside, ring = ink_HW >= 128, ring & (near < 60)
    if not inside.any() or not ring.any():
        return 0.0
    colours = [tuple(int(level) for level in pixels_HW3[mask].mean(0)) for mask in (inside, ring)]
    return contrast(colours[0], colours[1])  # type: ignore[arg-type]
