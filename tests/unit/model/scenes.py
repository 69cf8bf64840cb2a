"""Pictures that are no chest radiograph, drawn for the tests: no gate was fitted to them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Colours = NDArray[np.uint8]  # (rows, columns, 3)
Scene = Callable[[np.random.Generator], Image.Image]


def text_page(generator: np.random.Generator) -> Image.Image:
    page = Image.new("RGB", (420, 560), "white")
    draw = ImageDraw.Draw(page)
    size = int(generator.integers(11, 18))
    for top in range(20, 540, size + 5):
        words = ["x" * int(n) for n in generator.integers(1, 10, 9)]
        draw.text((20, top), " ".join(words), fill="black", font_size=size)
    return page


def table(generator: np.random.Generator) -> Image.Image:
    sheet = Image.new("RGB", (400, 300), "white")
    draw = ImageDraw.Draw(sheet)
    rows, columns = generator.integers(4, 12, 2)
    for r in range(rows):
        for c in range(columns):
            box = (400 * c // columns, 300 * r // rows)
            draw.rectangle((*box, 400, 300), outline="gray")
            draw.text((box[0] + 3, box[1] + 3), str(generator.integers(10000)), fill="black")
    return sheet


def screenshot(generator: np.random.Generator) -> Image.Image:
    screen = Image.new("RGB", (640, 400), (30, 30, int(generator.integers(30, 80))))
    draw = ImageDraw.Draw(screen)
    draw.rectangle((0, 0, 640, 24), fill=(200, 200, 210))
    for top in range(30, 390, 15):
        left = 10 + 16 * int(generator.integers(0, 6))
        line = "".join(chr(n) for n in generator.integers(48, 122, int(generator.integers(4, 60))))
        draw.text((left, top), line, fill=tuple(generator.integers(120, 256, 3).tolist()))
    return screen


def landscape(generator: np.random.Generator) -> Image.Image:
    y = np.linspace(0, 1, 300)[:, None, None]
    scene = np.concatenate([0.5 + 0.3 * y, 0.7 - 0.1 * y, 1 - 0.2 * y], axis=2)
    scene = np.broadcast_to(scene, (300, 400, 3)).copy()
    for depth in range(4):
        ridge = 0.35 + 0.15 * depth + 0.2 * np.cumsum(generator.normal(0, 0.05, 400))
        hill = generator.uniform(0.1, 0.6, 3) + 0.1 * generator.standard_normal((300, 400, 1))
        scene = np.where(y > ridge[None, :, None], hill, scene)
    return _picture(scene)


def face(generator: np.random.Generator) -> Image.Image:
    scene = Image.new("RGB", (300, 300), tuple(generator.integers(20, 230, 3).tolist()))
    draw = ImageDraw.Draw(scene)
    skin = (int(generator.integers(150, 240)), 150, 120)
    draw.pieslice((30, 230, 270, 420), 180, 360, fill=tuple(generator.integers(0, 256, 3).tolist()))
    draw.ellipse((80, 30, 220, 170), fill=(60, 40, 20))
    draw.ellipse((90, 60, 210, 240), fill=skin)
    for x in (125, 175):
        draw.ellipse((x - 12, 125, x + 12, 137), fill="white")
        draw.ellipse((x - 5, 126, x + 5, 136), fill="black")
    draw.polygon([(150, 140), (140, 175), (160, 175)], fill=(150, 110, 90))
    draw.ellipse((125, 195, 175, 208), fill=(170, 60, 60))
    return scene.filter(ImageFilter.GaussianBlur(float(generator.uniform(1, 3))))


def gradient_of_colours(generator: np.random.Generator) -> Image.Image:
    y, x = np.mgrid[0:240, 0:320] / 240
    turns = generator.uniform(0, 2 * np.pi, 3)
    return _picture(0.5 + 0.5 * np.stack([np.cos(t) * x + np.sin(t) * y for t in turns], axis=-1))


def checkerboard(generator: np.random.Generator) -> Image.Image:
    y, x = np.mgrid[0:256, 0:256] // int(generator.integers(4, 50))
    return _picture(np.repeat(((x + y) % 2)[..., None], 3, axis=2))


def noise(generator: np.random.Generator) -> Image.Image:
    return _picture(generator.random((200, 200, 3)))


def hand(generator: np.random.Generator) -> Image.Image:
    sheet = Image.new("L", (224, 224), 0)
    draw = ImageDraw.Draw(sheet)
    tips = np.array([(50, 60), (85, 25), (112, 15), (140, 25), (178, 85)])
    for width, grey in ((26, 80), (10, 210)):
        for x, y in tips + generator.integers(-6, 7, (5, 2)):
            draw.line((112, 160, int(x), int(y)), fill=grey, width=width)
        draw.rectangle((112 - 2 * width // 2, 150, 112 + 2 * width // 2, 224), fill=grey)
    return sheet.filter(ImageFilter.GaussianBlur(1.5)).convert("RGB")


def slice_of_abdomen(generator: np.random.Generator) -> Image.Image:
    sheet = Image.new("L", (256, 256), 0)
    draw = ImageDraw.Draw(sheet)
    draw.ellipse((15, 55, 241, 205), fill=90)
    draw.ellipse((25, 65, 231, 195), fill=150)
    draw.ellipse((40, 75, 130, 165), fill=175)
    for x, y in generator.integers((60, 80), (200, 170), (12, 2)):
        draw.ellipse((int(x), int(y), int(x) + 18, int(y) + 14), fill=int(generator.integers(256)))
    draw.ellipse((114, 160, 144, 186), fill=250)
    return sheet.filter(ImageFilter.GaussianBlur(1)).convert("RGB")


SCENES: tuple[Scene, ...] = (
    text_page,
    table,
    screenshot,
    landscape,
    face,
    gradient_of_colours,
    checkerboard,
    noise,
    hand,
    slice_of_abdomen,
)


def draw(scene: Scene, seed: int) -> Colours:
    """Return a scene's colours."""
    return np.asarray(scene(np.random.default_rng(seed)))


def _picture(scene: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray((np.clip(scene, 0, 1) * 255).astype(np.uint8))
