"""`rstpm-edge keygen` and `rstpm-edge sign`: a pair of keys, and the signature of a model file."""

from pathlib import Path

import click

from rstpm_edge.cli.common import one_model
from rstpm_edge.cli.options import model_option
from rstpm_edge.cli.parameter_types import FILE
from rstpm_edge.cli.terminal import say, say_note


@click.command()
@click.argument("name", type=FILE)
@click.option(
    "--password-file", type=FILE, metavar="FILE", help="Encrypt the private key with the passphrase in this file."
)
def keygen(name: Path, password_file: Path | None) -> None:
    """Make a pair of keys that sign models: NAME.key, which is secret, and NAME.pub.

    The secret one belongs where models are released, and nowhere else. The public one goes to the stations, by a way
    that nobody else can write to. The keys are elliptic ones (P-256) in PEM files, as OpenSSL makes them.

    \b
    Example:
      rstpm-edge keygen release
    """
    from rstpm_edge.model.keys import load_public_key, make_keys, others_may_read, read_password

    private, public = make_keys(name, None if password_file is None else read_password(password_file))
    say(f"{private}: keep it secret. {public}: for the stations; key {load_public_key(public).hint[:16]}.")
    if others_may_read(private):
        say_note(f"The file system of {private} has no permissions: whoever has the medium can read the key.")


@click.command()
@click.argument("file", required=False, metavar="[MODEL]", type=FILE)
@model_option
@click.option("--key", type=FILE, required=True, metavar="FILE", help="The private key, the .key file of a pair.")
@click.option("--password-file", type=FILE, metavar="FILE", help="The passphrase of the key, where it has one.")
@click.pass_context
def sign(ctx: click.Context, file: Path | None, model: Path, key: Path, password_file: Path | None) -> None:
    """Sign a model file: the signature is MODEL.sig, and goes with the model wherever it is copied.

    MODEL is the file; --model names it, too. A station that is given the other half of the key (`infer --public-key`)
    takes no model but a signed one, and none that has changed since. The signature has the format of OpenSSF Model
    Signing: `model_signing verify key MODEL --signature MODEL.sig --public_key NAME.pub` checks it, too.

    \b
    Examples:
      rstpm-edge sign bracket.onnx --key release.key
      rstpm-edge verify bracket.onnx --public-key release.pub
    """
    from rstpm_edge.model.keys import load_private_key, others_may_read, read_password
    from rstpm_edge.model.signing import sign_model

    model = one_model(ctx, file, model)
    private = load_private_key(key, None if password_file is None else read_password(password_file))
    if others_may_read(key):
        say_note(f"Others on this machine may read the key {key}: chmod 600 takes that from them.")
    done = sign_model(model, private)
    say(f"{done.file}: {model} with the SHA-256 {done.sha256}, signed with the key {private.public.hint[:16]}.")
