"""Names for runs without one, such as "quiet-heron-417"."""

from __future__ import annotations

import secrets

_ADJECTIVES = (
    "able agile amber bold brave bright brisk calm candid clear clever crisp curious deft eager "
    "early even fair fast fine fleet fond frank fresh gentle glad golden grand great happy hardy "
    "honest humble keen kind lively loyal lucid lucky mellow merry mild modest neat nimble noble "
    "patient plucky polite proud quick quiet rapid ready serene sharp silent sleek smart smooth "
    "snug sober solid spry steady stoic sunny swift tidy upbeat vivid warm wise witty zesty"
)
_ANIMALS = (
    "ant badger bat bear beaver bee bison boar buck carp cat colt crab crane crow deer dove duck "
    "eagle eel elk falcon fawn finch fish fox frog gnat gnu goat goose grouse gull hare hawk "
    "heron horse hound ibis jay kite koi lamb lark lion lynx mare midge mink mole moose moth "
    "mouse mule newt otter owl ox panda perch pike pony quail ram rat raven rook seal shad shark "
    "sheep shrew skink slug snail snipe sow squid stag stork swan tern toad trout vole wasp whale "
    "wolf worm wren yak zebra"
)


def made_up_name() -> str:
    """Return an adjective, an animal and a number. Two runs may get the same name."""
    number = secrets.randbelow(1000)
    return f"{secrets.choice(_ADJECTIVES.split())}-{secrets.choice(_ANIMALS.split())}-{number}"
