"""Named sets of story openings, for people who have no prompts yet."""

from __future__ import annotations

from tinylm.errors import ConfigError

__all__ = ["PRESETS", "preset_prompts"]

PRESETS: dict[str, tuple[str, ...]] = {
    "bedtime": (
        "Once upon a time, when the moon was high and the house was quiet,",
        "It was time for bed, but little Lily was not sleepy yet.",
        "Every night, Tom's teddy bear told him one small story.",
        "The stars came out one by one, and the smallest star began to speak.",
        'Mom turned off the lamp and said, "Let me tell you about the sleepy cloud."',
        "In a soft, warm nest at the top of a tree, a tiny owl could not sleep.",
    ),
    "animals": (
        "Once upon a time, there was a little rabbit who was afraid of the dark.",
        "A small brown dog named Max found a shiny key in the garden.",
        "The cat and the mouse had never been friends, until one rainy day.",
        "Deep in the forest lived a bear who loved to paint.",
        "A baby elephant wanted to learn how to swim.",
        "One morning, a frog jumped into the school bus.",
    ),
    "adventure": (
        "Ben and his sister found an old map under the stairs.",
        "The little boat sailed away from the beach with nobody in it but Sam.",
        "Behind the waterfall there was a door, and the door was open.",
        "Mia packed a sandwich, a rope and a torch, and set off up the hill.",
        "The balloon rose higher and higher, and soon the town looked like a toy.",
        '"Follow me," said the parrot, and it flew into the jungle.',
    ),
    "friendship": (
        "Lucy was new at school and did not know anyone.",
        "Two snails lived on two sides of the same wall.",
        "Tim did not want to share his red ball with anyone.",
        "The lonely giant lived on a hill, and every day he waved at the village.",
        "Anna and Jack had a big fight, and both of them felt sad.",
        "The robot had only one wish: to have a friend.",
    ),
    "magic": (
        "Grandma's teapot could talk, but only on Sundays.",
        "A girl named Rose found a small door at the bottom of the garden.",
        "The wizard lost his hat, and with the hat went all of his spells.",
        "When Leo planted the blue seed, the ground began to sing.",
        "There was once a pencil that made every drawing come true.",
        "The tiny dragon could not breathe fire; it could only blow bubbles.",
    ),
}


def preset_prompts(name: str) -> tuple[str, ...]:
    """Return the openings of preset `name`.

    Raises: ConfigError naming the known presets.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset: found {name!r}; known presets: {', '.join(sorted(PRESETS))}")
    return PRESETS[name]
