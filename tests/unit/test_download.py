"""Files of open data sets: by checksum, gone on with, and archives that may do no harm.

The files are fetched from file:// copies; a small server in a thread stands for the network once.
"""

import hashlib
import http.server
import io
import shutil
import tarfile
import threading
import zipfile
from types import SimpleNamespace

import pytest

from helpers.core import errors
from helpers.data import manifest_schema
from helpers.data.first_look import archives, download

BASE = dict(
    name="films",
    title="Films",
    modality="chest radiograph",
    access="open",
    licence="none",
    citation="none",
    how_to_get="From the publisher.",
    layout=dict(kind="table_and_images", table="t.csv", image_path="{file}"),
    image_id="{file}",
    patient_id="patient",
    split=dict(test_share=0.3, valid_share=0.2),
    findings=dict(effusion=dict(canonical="effusion", column="e", values={"1": "positive"})),
)
CONTENT = b"file,patient\n" + bytes(range(256)) * 20


def sha256(content):
    """The checksum of a manifest's `download`."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def manifest_of(content, url, to="t.csv", **changes):
    """A manifest with one file to fetch."""
    entry = dict(url=url, checksum=sha256(content), to=to, max_bytes=1_000_000)
    return manifest_schema.Manifest.model_validate(BASE | {"download": [entry | changes]})


def published(tmp_path, content, name="t.csv"):
    """The file:// URL of a file with this content."""
    (tmp_path / "published").mkdir(exist_ok=True)
    path = tmp_path / "published" / name
    path.write_bytes(content)
    return path.as_uri()


def zipped(members):
    """A zip archive of {name: content}."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(members, mode="w:gz"):
    """A tar archive of {name: content or TarInfo's changes}."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, dict):
                for field, value in content.items():
                    setattr(member, field, value)
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def lying_in(root):
    """{path: content} of the files under a data root, without what is stored for going on."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and download.STORE not in path.parts
    }


def test_a_file_is_fetched_once(tmp_path):
    manifest = manifest_of(CONTENT, published(tmp_path, CONTENT), to="tables/t.csv")
    assert download.fetch(manifest, tmp_path / "root") == ["tables/t.csv: fetched"]
    assert lying_in(tmp_path / "root") == {"tables/t.csv": CONTENT}
    (tmp_path / "published/t.csv").unlink()
    assert download.fetch(manifest, tmp_path / "root") == ["tables/t.csv: there"]


def test_md5_is_understood(tmp_path):
    checksum = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
    manifest = manifest_of(CONTENT, published(tmp_path, CONTENT), checksum=checksum)
    download.fetch(manifest, tmp_path / "root")
    assert download.fetch(manifest, tmp_path / "root") == ["t.csv: there"]


def test_a_wrong_checksum_is_refused_and_leaves_what_was_there(tmp_path):
    root = tmp_path / "root"
    download.fetch(manifest_of(CONTENT, published(tmp_path, CONTENT)), root)
    other = manifest_of(b"else", published(tmp_path, b"damaged", "u.csv"), to="u.csv")
    with pytest.raises(errors.InputError, match="u.csv to have the sha256.*got another"):
        download.fetch(other, root)
    assert lying_in(root) == {"t.csv": CONTENT}
    assert not [path for path in (root / download.STORE).iterdir() if path.suffix != ".json"]


def test_another_file_in_its_place_is_not_overwritten(tmp_path):
    (tmp_path / "t.csv").write_text("my own")
    with pytest.raises(errors.InputError, match="no other file at"):
        download.fetch(manifest_of(CONTENT, published(tmp_path, CONTENT)), tmp_path)
    assert (tmp_path / "t.csv").read_text() == "my own"


def test_what_was_fetched_before_an_interruption_is_gone_on_with(tmp_path, capsys):
    manifest = manifest_of(CONTENT, published(tmp_path, CONTENT))
    part = tmp_path / download.STORE / f"{hashlib.sha256(CONTENT).hexdigest()}.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT[:1000])
    download.fetch(manifest, tmp_path)
    assert (tmp_path / "t.csv").read_bytes() == CONTENT
    assert "1,000 bytes were there" in capsys.readouterr().out


class Server(http.server.BaseHTTPRequestHandler):
    """A server that knows ranges, and breaks off in the middle of the first answer."""

    asked = []

    def do_GET(self):
        """Answer with the rest of CONTENT."""
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.asked.append(start)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : None if start else 2000])

    def log_message(self, *words):
        """Say nothing."""


def test_an_interrupted_answer_is_gone_on_with_over_http(tmp_path):
    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    manifest = manifest_of(CONTENT, f"http://127.0.0.1:{server.server_port}/t.csv")
    try:
        with pytest.raises(errors.InputError, match="same command again: it goes on"):
            download.fetch(manifest, tmp_path)
        assert not (tmp_path / "t.csv").exists()
        download.fetch(manifest, tmp_path)
    finally:
        server.shutdown()
        server.server_close()
    assert Server.asked == [0, 2000] and (tmp_path / "t.csv").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(access="registration"), "From the publisher"),
        (dict(download=[]), "`download` in the manifest of films; got none. How to get it: From"),
    ],
)
def test_what_not_everybody_may_fetch_is_refused_with_how_to_get_it(changes, message, tmp_path):
    manifest = manifest_of(CONTENT, published(tmp_path, CONTENT)).model_copy(update=changes)
    with pytest.raises(errors.InputError, match=message):
        download.fetch(manifest, tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_a_file_larger_than_stated_and_an_absent_one_are_refused(tmp_path):
    url = published(tmp_path, CONTENT)
    with pytest.raises(errors.InputError, match="at most 100 bytes from"):
        download.fetch(manifest_of(CONTENT, url, max_bytes=100), tmp_path)
    (tmp_path / "published/t.csv").unlink()
    with pytest.raises(errors.InputError, match="to fetch file:.*FileNotFoundError"):
        download.fetch(manifest_of(CONTENT, url), tmp_path)
    assert set(lying_in(tmp_path)) == set()


# ---- archives

FILES = {"images/a.png": b"aa", "images/deep/b.png": b"bbb"}


@pytest.mark.parametrize(
    "archive",
    [
        zipped(FILES),
        tarred(FILES.items()),
        tarred(FILES.items(), "w"),
        tarred(FILES.items(), "w:xz"),
    ],
)
def test_an_archive_is_unpacked_once_and_removed(archive, tmp_path):
    root = tmp_path / "root"
    manifest = manifest_of(archive, published(tmp_path, archive, "a.bin"), to="films", unpack=True)
    assert download.fetch(manifest, root) == ["films: 2 files fetched"]
    assert lying_in(root) == {f"films/{name}": content for name, content in FILES.items()}
    assert [path.suffix for path in (root / download.STORE).iterdir()] == [".json"]
    (tmp_path / "published/a.bin").unlink()
    assert download.fetch(manifest, root) == ["films: there"]
    (root / "films/images/a.png").unlink()
    with pytest.raises(errors.InputError, match="to fetch"):
        download.fetch(manifest, root)


MALICIOUS = {
    "absolute": tarred([("/etc/x", b"x")]),
    "outside": tarred([("a/../../x", b"x")]),
    "zip outside": zipped({"../x": b"x"}),
    "zip absolute": zipped({"/x": b"x"}),
    "windows": zipped({"C:x": b"x"}),
    "link": tarred([("a", dict(type=tarfile.SYMTYPE, linkname="/etc"))]),
    "hard link": tarred([("a", dict(type=tarfile.LNKTYPE, linkname="/etc/passwd"))]),
    "device": tarred([("a", dict(type=tarfile.CHRTYPE))]),
    "fifo": tarred([("a", dict(type=tarfile.FIFOTYPE))]),
    "twice": tarred([("a", b"1"), ("a", b"2")]),
    "bomb": zipped({"a": bytes(2_000_000)}),
    "many": zipped({str(k): bytes(300_000) for k in range(5)}),
    "tar bomb": tarred([("a", bytes(2_000_000))]),
    "cut": tarred([("a", bytes(range(256)) * 400)])[:-60],
    "zip cut": zipped({"a": CONTENT})[:-30],
    "no archive": b"<html>404</html>",
}


def zip_with_link():
    """A zip archive whose member is a symbolic link."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        member = zipfile.ZipInfo("a")
        member.external_attr = 0o120777 << 16
        archive.writestr(member, "/etc")
    return stream.getvalue()


@pytest.mark.parametrize(
    "archive", [*MALICIOUS.values(), zip_with_link()], ids=[*MALICIOUS, "zip link"]
)
def test_an_archive_that_may_do_harm_is_refused_and_leaves_nothing(archive, tmp_path):
    root = tmp_path / "root"
    (root / "films").mkdir(parents=True)
    (root / "films/mine.png").write_bytes(b"mine")
    manifest = manifest_of(archive, published(tmp_path, archive, "a.bin"), to="films", unpack=True)
    with pytest.raises(errors.InputError):
        download.fetch(manifest, root)
    assert lying_in(root) == {"films/mine.png": b"mine"}
    assert not [path for path in tmp_path.rglob("*") if path.name in ("x", "a")]


def test_a_member_that_lies_about_its_size_is_refused(tmp_path):
    archive = bytearray(zipped({"a": bytes(2_000_000)}))
    declared = (2_000_000).to_bytes(4, "little")
    while (at := archive.find(declared)) >= 0:
        archive[at : at + 4] = (10).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(archive)
    (tmp_path / "out").mkdir()
    with pytest.raises(errors.InputError):
        archives.unpack(tmp_path / "a.zip", tmp_path / "out", 1_000_000)
    assert sum(path.stat().st_size for path in (tmp_path / "out").iterdir()) <= 1_000_000


def test_an_archive_does_not_overwrite_other_files(tmp_path):
    archive = zipped(FILES)
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(b"mine")
    manifest = manifest_of(archive, published(tmp_path, archive, "a.bin"), to=".", unpack=True)
    with pytest.raises(errors.InputError, match="no other file at"):
        download.fetch(manifest, tmp_path)
    assert (tmp_path / "images/a.png").read_bytes() == b"mine"
    assert not (tmp_path / "images/deep").exists()


def test_room_is_needed_for_what_is_not_there_yet_and_for_an_archive_s_content(
    tmp_path, monkeypatch
):
    content = zipped({"a.png": b"a"})
    url = published(tmp_path, content, "t.zip")
    manifest = manifest_of(content, url, to="films", unpack=True)  # at most 1,000,000 bytes
    store = tmp_path / "root" / download.STORE
    store.mkdir(parents=True)
    part = store / f"{sha256(content).removeprefix('sha256:')}.part"
    part.write_bytes(content[:10])
    for free, is_enough in ((1_999_989, False), (1_999_990, True)):
        disk = SimpleNamespace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, disk=disk: disk)
        if is_enough:
            download.fetch(manifest, tmp_path / "root")
            assert (tmp_path / "root/films/a.png").read_bytes() == b"a"
        else:
            with pytest.raises(errors.InputError, match="1,999,990 bytes free in .* for films"):
                download.fetch(manifest, tmp_path / "root")
