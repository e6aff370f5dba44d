"""The files of the page that come with the package."""

from importlib import resources

MEDIA = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def page_files() -> dict[str, bytes]:
    """The files of the page by name; those of the engine in the browser are not among them."""
    base = {"base.css": resources.files("clips4").joinpath("assets", "pages", "style.css").read_bytes()}  # of all pages
    return base | _files_in()


def browser_files() -> dict[str, bytes]:
    """The files of the engine that runs the model in the browser, by name."""
    return _files_in("browser")


def _files_in(*folder: str) -> dict[str, bytes]:
    found = resources.files("clips4").joinpath("assets", "serve", *folder).iterdir()
    return {each.name: each.read_bytes() for each in found if each.name.rpartition(".")[2] in MEDIA}
