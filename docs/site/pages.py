"""What the site adds to the pages of the repository: their tree, source files as pages, and the start page.

The tree is that of docs/index.md: a heading is a part, a list entry a page. A page that has a folder of its own name
beside it (`course.md` and `course/`) is the door to the pages there that it links to.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from docutils import nodes
from markdown_it import MarkdownIt
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_by_name, get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx

LINK = re.compile(r"\]\(([^)#\s]+\.(?:md|ipynb))\)")
SHOWN = {".py", ".sh", ".csv", ".css", ".js", ".toml", ".txt", ".json", ".yml", ".yaml", ".cff", ""}
"""Endings of files that get a page of highlighted text. Others are downloads."""
MOST_BYTES = 400_000
SENTENCES = 25
"""Letters in the mean cell from which on a table of three and more columns is one of sentences."""
UNREAD = (nodes.section, nodes.title, addnodes.toctree)
"""Parts of a section that its text in search results leaves out."""


def listed(text: str, folder: Path) -> dict[str, list[Path]]:
    """Pages that lists link to, by the heading above them."""
    found: dict[str, list[Path]] = {}
    seen: set[Path] = set()
    heading = ""
    for line in text.splitlines():
        if line.startswith("## "):
            heading = line[3:].strip()
        elif re.match(r"\s*(?:[-*|]|\d+\.)\s", line):
            for target in LINK.findall(line):
                page = (folder / target).resolve()
                if page.is_file() and page not in seen:
                    seen.add(page)
                    found.setdefault(heading, []).append(page)
    return found


def behind_a_door(page: Path, root: Path) -> bool:
    """Whether a page lies in the folder of another page, which lists it."""
    return page.parent != root and page.parent.with_suffix(".md").is_file()


def add_tree(app: Sphinx, name: str, source: list[str]) -> None:
    """Append to a page the tree of what lies below it.

    Pages outside docs/ may be in no tree. Sphinx warns of others.
    """
    root, page = Path(app.srcdir), Path(app.env.doc2path(name))
    if page.suffix != ".md":
        return
    folder = page.with_suffix("")
    if name == app.config.root_doc:
        parts = {
            heading: [one for one in pages if not behind_a_door(one, root)]
            for heading, pages in listed(source[0], page.parent).items()
        }
    elif folder.is_dir():
        inside = [one for pages in listed(source[0], page.parent).values() for one in pages if one.parent == folder]
        parts = {"": inside} if inside else {}
    else:
        parts = {}
    for heading, pages in parts.items():
        caption = [f":caption: {heading}"] if heading else []
        entries = [f"/{one.relative_to(root).with_suffix('').as_posix()}" for one in pages]
        source[0] += "\n\n" + "\n".join(["```{toctree}", ":hidden:", *caption, "", *entries, "```"]) + "\n"
    index = Path(app.env.doc2path(app.config.root_doc))
    in_tree = {one for pages in listed(index.read_text(encoding="utf-8"), index.parent).values() for one in pages}
    if not page.is_relative_to(index.parent) and page not in in_tree:
        source[0] = f"---\norphan: true\n---\n{source[0]}"


def mark(app: Sphinx, tree: nodes.document, name: str) -> None:
    """Mark tables of sentences, which a telephone shows as cards (site.css), and say what pictures of notebooks are."""
    for image in tree.findall(nodes.image):
        image.attributes.setdefault("alt", "Picture that the cell above shows")
    for table in tree.findall(nodes.table):
        cells = [len(cell.astext()) for body in table.findall(nodes.tbody) for cell in body.findall(nodes.entry)]
        columns = len(list(table.findall(nodes.colspec)))
        if columns >= 3 and cells and sum(cells) / len(cells) >= SENTENCES:
            table["classes"].append("prose")


def source_page(path: Path, root: Path) -> str:
    """The name of the page that shows a source file."""
    return f"source/{path.relative_to(root).as_posix()}"


def show_sources(app: Sphinx, tree: nodes.document, name: str) -> None:
    """Lead links to source files to pages that show them."""
    if app.builder.format != "html":
        return
    root = Path(app.srcdir).resolve()
    for node in list(tree.findall(addnodes.download_reference)):
        path = (root / Path(app.env.doc2path(name)).parent / node["reftarget"]).resolve()
        if not path.is_file():
            path = (root / node["reftarget"].lstrip("/")).resolve()
        if not path.is_file() or path.suffix not in SHOWN or path.stat().st_size > MOST_BYTES:
            continue
        target = source_page(path, root)
        app.env.shown_sources = getattr(app.env, "shown_sources", set()) | {path}
        uri = app.builder.get_relative_uri(name, target)
        node.replace_self(nodes.reference("", "", *node.children, refuri=quote(uri), internal=True))


def collect_sources(app: Sphinx) -> Iterator[tuple[str, dict[str, str], str]]:
    """Pages of all source files that pages link to."""
    root = Path(app.srcdir).resolve()
    for path in sorted(getattr(app.env, "shown_sources", ())):
        text = path.read_text(encoding="utf-8")
        try:
            lexer = get_lexer_for_filename(path.name)
        except ClassNotFound:
            lexer = TextLexer()
        code = highlight(text, lexer, HtmlFormatter(linenos="table", lineanchors="L"))
        title = path.relative_to(root).as_posix()
        yield source_page(path, root), {"title": title, "body": f"<h1>{title}</h1>{code}"}, "page.html"


def start_page(root: Path) -> dict[str, str]:
    """Parts of the README that the start page shows, as HTML."""
    text = (root / "README.md").read_text(encoding="utf-8")
    parts = dict(re.findall(r"^## ([^\n]+)\n+(.*?)(?=^## |\Z)", text, flags=re.M | re.S))
    shell, python = (re.search(rf"```{kind}\n(.*?)```", text, flags=re.S) for kind in ("sh", "python"))
    install = re.search(r"```sh\n(.*?)```", parts["Install"], flags=re.S)
    table = re.search(r"<!-- results -->\n(.*?)<!-- /results -->", text, flags=re.S)
    pitch = re.search(r"^Video action recognition:.*?(?=\n\n)", text, flags=re.M | re.S)
    found = {"shell": shell, "python": python, "install": install, "table": table, "pitch": pitch}
    missing = [name for name, match in found.items() if match is None]
    if missing:
        raise SystemExit(f"README.md: the start page takes {', '.join(missing)} from it, and does not find it.")
    return {
        "pitch": pitch[0],
        "shell": code(shell[1], "sh"),
        "python": code(python[1], "python"),
        "install": code(install[1], "sh"),
        "table": to_pages(MarkdownIt("commonmark").enable("table").render(table[1])),
    }


def code(text: str, kind: str) -> str:
    """Highlighted code, as Sphinx's pages have it."""
    inner = highlight(text, get_lexer_by_name(kind), HtmlFormatter())
    return f'<div class="highlight-{kind} notranslate">{inner}</div>'


def to_pages(html: str) -> str:
    """HTML whose links to Markdown lead to the site's pages."""
    html = re.sub(r'href="(?!https?:)([^"#]+)\.md', r'href="\1.html', html)
    html = html.replace(
        "<table>", '<div class="table-wrapper docutils container"><table class="docutils align-default">'
    )
    return html.replace("</table>", "</table></div>")


def add_start(app: Sphinx, name: str, template: str, context: dict, tree: nodes.document | None) -> None:
    """Give the start page its parts, and lead the name in the corner of every page to it."""
    if name == "index":
        context["start"] = start_page(Path(app.srcdir))
        context["title"] = "muybridge"
    context["master_doc"] = "index"  # where the name in the corner leads


def section_texts(tree: nodes.document) -> list[tuple[str, str]]:
    """The texts of a page's sections, each with its anchor and without the sections in it."""
    for node in list(tree.findall(nodes.container)):
        if node.get("nb_element") == "mime_bundle":  # a notebook's pictures and tables
            node.parent.remove(node)
    found = []
    for section in tree.findall(nodes.section):
        parts = [part.astext() for part in section.children if not isinstance(part, UNREAD)]
        found.append((section["ids"][0], " ".join(" ".join(parts).split())))
    return found


def write_texts(app: Sphinx, failed: Exception | None) -> None:
    """Write the texts that search results show pieces of (static/excerpts.js)."""
    if failed or app.builder.format != "html":
        return
    texts = {name: section_texts(app.env.get_doctree(name)) for name in sorted(app.env.found_docs)}
    words = json.dumps(texts, ensure_ascii=False, separators=(",", ":"))
    (Path(app.outdir) / "_static" / "texts.js").write_text(f"const Texts = {words};\n", encoding="utf-8")


def copy_picture(app: Sphinx) -> None:
    """Copy the picture of the start page."""
    app.config.html_static_path.append(str(Path(app.srcdir) / "docs" / "report.png"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect all of it."""
    app.connect("builder-inited", copy_picture)
    app.connect("source-read", add_tree)
    app.connect("doctree-resolved", mark)
    app.connect("doctree-resolved", show_sources)
    app.connect("html-collect-pages", collect_sources)
    app.connect("html-page-context", add_start)
    app.connect("build-finished", write_texts)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
