"""Draws a page in headless Chromium and looks at the picture."""

import pathlib
import shutil
import subprocess


def missing():
    """What is not installed of what drawing needs; "" if nothing."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        return "Pillow"
    return "" if _program() else "Chromium"


def _program():
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def _run(page, folder, *action):
    return subprocess.run([_program(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                           f"--user-data-dir={folder}/profile", "--window-size=1000,2200", *action, f"file://{page}"],
                          capture_output=True, text=True, timeout=120, check=True).stdout


def elements(page, folder):
    """The page as the browser understood it. Fails if it asks for something from outside."""
    dom = _run(pathlib.Path(page).resolve(), folder, "--dump-dom")
    assert "http" not in dom, "the page asks for something from outside"
    return dom


def colours(page, folder, wanted, keep=None):
    """Counts pixels: {name: count} for wanted = {name: ((red, green, blue), [opacities])}, and "text", all that is dark."""
    from PIL import Image
    picture = pathlib.Path(folder) / "page.png"
    _run(pathlib.Path(page).resolve(), folder, f"--screenshot={picture}")
    if keep:
        shutil.copy(picture, keep)
    blends = {name: [tuple(o * c + (1 - o) * 255 for c in colour) for o in opacities]
              for name, (colour, opacities) in wanted.items()}
    counts = dict.fromkeys([*wanted, "text"], 0)
    data = Image.open(picture).convert("RGB").tobytes()
    for pixel in zip(data[::3], data[1::3], data[2::3]):
        for name, mixed in blends.items():
            counts[name] += any(all(abs(a - b) < 12 for a, b in zip(pixel, blend)) for blend in mixed)
        counts["text"] += sum(pixel) < 250
    return counts
