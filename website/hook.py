"""What MkDocs calls: it adds the pages and files that are not in docs/, and adapts the others."""

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from website.job_page import job_pages, job_table
from website.markdown import with_deep_lists
from website.repository_files import DOCS, FOLDER, PAGES, ROOT, linked_files, with_links

JOBS, DECISIONS = "jobs/*", "decisions/*"
"""Entries of the navigation that stand for all pages of a folder."""
TABLE_OF_JOBS = "<!-- the table of jobs -->"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill in the entries of the navigation that stand for a folder."""
    decisions = sorted((ROOT / DOCS / "decisions").glob("*.md"))
    folders = {JOBS: list(job_pages()), DECISIONS: [f"decisions/{one.name}" for one in decisions]}
    config.nav = _filled(config.nav, folders)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the jobs' pages, the documents in the repository's root, and linked files."""
    for path, text in job_pages().items():
        files.append(File.generated(config, path, content=text))
    for source, page in PAGES.items():
        text = with_links((ROOT / source).read_text("utf-8"), source, page)
        files.append(File.generated(config, page, content=text))
    for path in sorted(linked_files()):
        text = (ROOT / path).read_text("utf-8")
        files.append(File.generated(config, f"{FOLDER}/{path}", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - named by MkDocs
    """Adapt a page: the table of jobs, links out of docs/, and the indentation of lists."""
    path = page.file.src_uri
    text = markdown.replace(TABLE_OF_JOBS, job_table())
    if path not in PAGES.values():
        text = with_links(text, f"{DOCS}/{path}", path)
    return with_deep_lists(text)


def _filled(entry: object, folders: dict[str, list[str]]) -> object:
    """Return an entry of the navigation with the pages of each folder in it."""
    if isinstance(entry, dict):
        return {title: _filled(below, folders) for title, below in entry.items()}
    if not isinstance(entry, list):
        return entry
    filled: list[object] = []
    for one in entry:
        filled += folders.get(one, [one]) if isinstance(one, str) else [_filled(one, folders)]
    return filled
