"""Whether the Dockerfiles are sound: by hadolint, and by what an image of ours has to be."""

import re
import subprocess

import pytest

FILES = ["Dockerfile", "Dockerfile.gpu"]


def lines(root, file):
    """Instructions, each on one line, without comments."""
    text = re.sub(r"^#.*\n", "", (root / file).read_text(), flags=re.M)
    return [line for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines() if line.strip()]


def stages(root, file):
    """Name of each stage -> what it is made from, and its instructions."""
    found = {}
    for line in lines(root, file):
        if line.startswith("FROM "):
            words = line.split()
            name = words[3] if len(words) > 3 else "the last"
            found[name] = (words[1], [])
        else:
            found[name][1].append(line)
    return found


@pytest.mark.parametrize("file", FILES)
def test_hadolint_has_nothing_to_say(root, file):
    done = subprocess.run(["hadolint", "--no-color", file], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("file", FILES)
def test_the_image_is_the_program_alone(root, file):
    all_stages = stages(root, file)
    base, instructions = all_stages["the last"]
    if base in all_stages:
        base, instructions = all_stages[base]
    assert base.startswith("gcr.io/distroless/") and base.endswith(":nonroot")
    assert not [line for line in instructions if line.startswith(("RUN", "ADD"))]
    assert [line for line in instructions if line.startswith("COPY")] == ["COPY --from=build /out/vlinders /usr/local/bin/vlinders"]
    # A number: Kubernetes can not tell whether a name is root.
    assert "USER 65532:65532" in instructions
    assert 'ENTRYPOINT ["/usr/local/bin/vlinders"]' in instructions
    # There is no shell to ask with.
    assert any(line.startswith("HEALTHCHECK") and line.endswith('CMD ["/usr/local/bin/vlinders", "health"]') for line in instructions)
    for label in ("title", "description", "licenses"):
        assert any(f"org.opencontainers.image.{label}=" in line for line in instructions), label


@pytest.mark.parametrize("file", FILES)
def test_dependencies_are_a_layer_of_their_own(root, file):
    """It comes before our sources, is made from nothing but the recipe, and is built just as the program is."""
    _, build = stages(root, file)["build"]
    cook = next(idx for idx, line in enumerate(build) if line.startswith("RUN cargo chef cook"))
    sources = build.index("COPY . .")
    program = next(idx for idx, line in enumerate(build) if line.startswith("RUN cargo build"))
    assert cook < sources < program
    assert any(line.startswith("COPY --from=plan") for line in build[:cook])
    # What differs would be compiled twice.
    words = build[cook].removeprefix("RUN cargo chef cook ").replace(" --recipe-path recipe.json", "")
    assert build[program].startswith(f"RUN cargo build {words} &&")


def test_what_dockerfiles_copy_is_sent_to_the_builder(root):
    ignored = [line for line in (root / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    for file in FILES:
        for line in lines(root, file):
            if line.startswith("COPY ") and "--from" not in line and line != "COPY . .":
                for path in line.split()[1:-1]:
                    assert (root / path).exists(), path
                    assert path.split("/")[0] not in ignored, path
    # Each member of the workspace, or cargo reads no further.
    assert not {"crates", "xtask", "Cargo.toml", "Cargo.lock", "scripts"} & set(ignored)
