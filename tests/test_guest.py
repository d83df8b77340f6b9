"""Installed into the environment of somebody's project, nothing of theirs changes until they ask for a comparison."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import installed
from tests.installed import ROOT, Installation, small

pytestmark = pytest.mark.slow

COMPARE = (*small("reference"), "-p", "no:cacheprovider")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed.build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Mapping[str, Installation]:
    found = {name: installed.make(tmp_path_factory.mktemp(name)) for name in ("without", "wheel", "editable")}
    found["wheel"].install(str(wheel))
    found["editable"].install("-e", str(ROOT))
    return found


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


#: packages with the names of our folders, whose code leaves a trace when it is run
OWN = {
    f"{name}/{file}": f"open({{trace!r}}, 'a').write(__name__ + ' ')\n{content}"
    for name in ("reports", "harness", "backends")
    for file, content in (("__init__.py", ""), ("models.py", "def total(*numbers):\n    return sum(numbers)\n"))
}
USES = "from {name}.models import total\n\ndef test_total():\n    assert total(1, 2) == 3\n"
ADDS = "def test_own_option(pytestconfig):\n    assert pytestconfig.getoption('--benchmark') == {value!r}\n"

PROJECTS: Mapping[str, Mapping[str, str]] = {
    "packages of its own": {
        "conftest.py": "",
        **OWN,
        **{f"test_{name}.py": USES.format(name=name) for name in ("reports", "harness", "backends")},
    },
    "a package that raises": {
        "reports/__init__.py": "raise RuntimeError('only on the server')\n",
        "test_one.py": "def test_one():\n    pass\n",
    },
    "installed from src": {
        **{f"src/{name}": content for name, content in OWN.items()},
        "tests/test_reports.py": USES.format(name="reports"),
        "tests/test_harness.py": USES.format(name="harness"),
    },
    "its own --benchmark": {
        "conftest.py": "def pytest_addoption(parser):\n    parser.addoption('--benchmark', action='store_true')\n",
        "test_one.py": ADDS.format(value=False),
    },
    "its own --benchmark in a group": {
        "conftest.py": (
            "def pytest_addoption(parser):\n"
            "    parser.getgroup('mine').addoption('--benchmark', action='store', default='x', help='theirs')\n"
        ),
        "test_one.py": ADDS.format(value="x"),
    },
}


@pytest.mark.parametrize("command", ["pytest", "python -m pytest", "pytest --import-mode=importlib"])
@pytest.mark.parametrize("project", PROJECTS)
def test_a_project_s_own_result_is_what_it_is_without_us(
    environments: Mapping[str, Installation], tmp_path: Path, project: str, command: str
) -> None:
    said = {}
    for name, environment in environments.items():
        folder = write(tmp_path / name / "project", PROJECTS[project])
        trace = tmp_path / name / "trace"
        for path in folder.rglob("*.py"):
            path.write_text(path.read_text().replace("{trace!r}", repr(str(trace))))
        theirs = environment.site_packages / "theirs.pth"
        if (folder / "src").is_dir():
            theirs.write_text(f"{folder / 'src'}\n")
        try:
            done = environment.run(*command.split(), "-p", "no:cacheprovider", folder=folder)
        finally:
            theirs.unlink(missing_ok=True)
        shown = re.sub(r"in [\d.]+s", "in TIME", done.stdout.replace(str(tmp_path / name), ""))
        shown = re.sub(r"(?m)^plugins: .*\n|=", "", shown)
        ran = sorted(trace.read_text().split()) if trace.exists() else []
        said[name] = (done.returncode, shown, done.stderr, ran)
    assert said["wheel"] == said["without"]
    assert said["editable"] == said["without"]
    if command == "pytest" or "importlib" not in command:
        assert said["without"][0] == 0, said["without"]


def test_the_wheel_has_one_name_and_real_files(wheel: Path) -> None:
    names = installed.names_in(wheel)
    assert {name.split("/")[0] for name in names} == {"rnn_crosscheck", "rnn_crosscheck-0.1.0.dist-info"}
    for folder in ("harness", "backends", "reports"):
        theirs = {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*.py")}
        assert theirs <= {name.removeprefix("rnn_crosscheck/") for name in names}
    assert "rnn_crosscheck/py.typed" in names
    assert "rnn_crosscheck/harness/protocols/quick.toml" in names
    for name in ("template.html", "script.js", "style.css"):
        assert f"rnn_crosscheck/reports/pages/browse/{name}" in names


@pytest.mark.long
def test_another_distribution_keeps_its_files_when_ours_comes_and_goes(tmp_path: Path, wheel: Path) -> None:
    environment = installed.make(tmp_path)
    theirs = write(environment.site_packages, {"reports/__init__.py": "theirs = True\n"}) / "reports" / "__init__.py"
    environment.install(str(wheel))
    assert theirs.read_text() == "theirs = True\n"
    environment.pip("uninstall", "-y", "rnn-crosscheck")
    assert theirs.read_text() == "theirs = True\n"
    assert not (environment.site_packages / "rnn_crosscheck").exists()


def test_an_unrelated_session_has_nothing_of_ours_but_the_plugin(
    environments: Mapping[str, Installation], tmp_path: Path
) -> None:
    heavy = "'numpy', 'pandas', 'pyarrow', 'pydantic', 'torch', 'tensorflow', 'keras', 'jax', 'matplotlib'"
    code = f"""
        import sys

        def pytest_unconfigure():
            print("OURS", sorted(name for name in sys.modules if name.startswith("rnn_crosscheck")))
            print("HEAVY", sorted({{{heavy}}} & set(sys.modules)))
        """
    write(tmp_path, {"conftest.py": "\n".join(line[8:] for line in code.splitlines()), "test_one.py": "def test(): 0"})
    for name in ("wheel", "editable"):
        done = environments[name].run("pytest", "-p", "no:cacheprovider", folder=tmp_path)
        assert "OURS ['rnn_crosscheck', 'rnn_crosscheck.plugin']" in done.stdout, done.stdout + done.stderr
        assert "HEAVY []" in done.stdout


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("wheel", "pytest --benchmark -W error"),
        ("wheel", "python -m pytest --crosscheck --import-mode=importlib"),
        ("editable", "pytest --crosscheck -p no:xdist"),
    ],
)
def test_a_comparison_amid_packages_of_the_same_names_runs_none_of_their_code(
    environments: Mapping[str, Installation], tmp_path: Path, name: str, command: str
) -> None:
    trace = tmp_path / "trace"
    # The leading process needs no pandas; those beside it do, and must not take this one.
    taken = {"pandas.py": "open({trace!r}, 'a').write(__name__)\n", "tests/test_own.py": "def test(): pass\n"}
    files = {**OWN, **taken, "conftest.py": "import pytest\n"}
    folder = write(tmp_path / "p", {path: text.replace("{trace!r}", repr(str(trace))) for path, text in files.items()})
    done = environments[name].run(*command.split(), *COMPARE, "-k", "training or timing", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not trace.exists(), trace.read_text()
    report = folder / "comparison" / "report.md"
    assert done.stdout.splitlines()[-1] == str(report)
    assert report.read_text().startswith("# ")
    assert max(map(len, done.stdout.split("= accuracy =")[1].splitlines())) <= 100


def test_an_option_that_another_has_too_is_named(environments: Mapping[str, Installation], tmp_path: Path) -> None:
    adds = "def pytest_addoption(parser):\n    parser.addoption('--crosscheck-output', default='x')\n"
    write(tmp_path / "conftest", {"conftest.py": adds, "test_one.py": "def test(): pass\n"})
    write(tmp_path / "plugin", {"theirs.py": adds, "test_one.py": "def test(): pass\n"})
    for folder, options in (("conftest", ()), ("plugin", ("-p", "theirs"))):
        done = environments["wheel"].run("python", "-m", "pytest", *options, folder=tmp_path / folder)
        said = done.stdout + done.stderr
        assert done.returncode == 4, said
        assert "--crosscheck-output is an option of rnn-crosscheck, and another plugin or conftest.py" in said
        assert "Traceback" not in said
        done = environments["wheel"].run(
            "python", "-m", "pytest", *options, "-p", "no:crosscheck", folder=tmp_path / folder
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.parametrize("addopts", ["-n auto", "--dist load --tx 2*popen", "--dist loadfile -n 2"])
def test_a_session_that_xdist_spreads_is_refused(
    environments: Mapping[str, Installation], tmp_path: Path, addopts: str
) -> None:
    write(tmp_path, {"pytest.ini": f"[pytest]\naddopts = {addopts}\n"})
    done = environments["wheel"].run("pytest", "--benchmark", *COMPARE, folder=tmp_path)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "can't be spread by pytest-xdist; add -n0" in done.stdout + done.stderr
    assert not (tmp_path / "comparison").exists()
    done = environments["wheel"].run("pytest", "--benchmark", "-n0", "--collect-only", *COMPARE, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
def test_where_pytest_benchmark_is_missing_a_comparison_says_so_and_nobody_else_notices(
    tmp_path: Path, wheel: Path
) -> None:
    environment = installed.make(tmp_path / "e", without=("pytest_benchmark", "xdist", "pytest_xdist"))
    environment.install(str(wheel))
    write(tmp_path / "p", {"test_one.py": "def test(): pass\n"})
    assert environment.run("pytest", folder=tmp_path / "p").returncode == 0
    done = environment.run("pytest", "--benchmark", *COMPARE, folder=tmp_path / "p")
    assert done.returncode == 4
    assert "needs the plugin pytest-benchmark, which is switched off or not installed" in done.stdout + done.stderr


def test_the_command_line_is_there_under_both_names(environments: Mapping[str, Installation], tmp_path: Path) -> None:
    for command in (("rnn-crosscheck",), ("python", "-m", "rnn_crosscheck")):
        shown = environments["wheel"].run(*command, "--help", folder=tmp_path).stdout
        assert shown.startswith("usage: rnn-crosscheck")
        for name in ("list", "report", "predictions", "new-backend"):
            assert f"    {name}" in shown
    for name in ("list", "report", "predictions", "new-backend"):
        shown = environments["wheel"].run("rnn-crosscheck", name, "--help", folder=tmp_path).stdout
        assert f"Example: rnn-crosscheck {name}" in shown
    done = environments["wheel"].run("rnn-crosscheck", "report", "nowhere", folder=tmp_path)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("There is no nowhere")


def test_an_error_of_somebody_else_s_is_not_taken_for_ours(
    environments: Mapping[str, Installation], tmp_path: Path
) -> None:
    write(tmp_path, {"conftest.py": "pytest_plugins = ['xdist.plugin']\n", "test_one.py": "def test(): pass\n"})
    said = {name: found.run("pytest", folder=tmp_path) for name, found in environments.items()}
    for done in said.values():
        assert done.returncode == said["without"].returncode
        assert "is an option of rnn-crosscheck" not in done.stdout + done.stderr
