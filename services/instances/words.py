"""Words that names of instances are drawn from."""

from __future__ import annotations

# fmt: off
ADJECTIVES = (
    "able", "bold", "brave", "brief", "calm", "chief", "clear", "crisp", "daring", "eager", "early", "epic",
    "exact", "fair", "fancy", "fast", "fine", "firm", "fleet", "fond", "fresh", "gentle", "giving", "glad",
    "grand", "great", "happy", "hardy", "keen", "kind", "known", "large", "light", "lively", "loyal", "lucky",
    "mellow", "merry", "mighty", "modest", "neat", "noble", "open", "patient", "polite", "prime", "proud",
    "quick", "quiet", "rapid", "ready", "right", "sharp", "sincere", "smart", "smooth", "solid", "sound",
    "stable", "steady", "sunny", "sure", "sweet", "swift", "tidy", "tight", "tops", "true", "valid", "vast",
    "vital", "warm", "welcome", "wise", "witty",
)
ANIMALS = (
    "ant", "badger", "bat", "bear", "beetle", "bison", "boar", "bream", "buck", "camel", "carp", "cat",
    "cheetah", "chimp", "civet", "clam", "cod", "colt", "condor", "coyote", "crab", "crane", "crow", "deer",
    "dingo", "dodo", "doe", "dove", "duck", "eagle", "eel", "elk", "emu", "falcon", "fawn", "ferret", "finch",
    "fish", "fox", "frog", "gecko", "gnat", "goose", "grouse", "gull", "hare", "hawk", "hen", "heron",
    "hornet", "horse", "hyena", "ibex", "ibis", "jackal", "jay", "kit", "kiwi", "koala", "lamb", "lark",
    "lemur", "lion", "llama", "lynx", "macaw", "mallard", "marlin", "marten", "mole", "moose", "moth",
    "mouse", "mule", "newt", "okapi", "orca", "oryx", "otter", "owl", "ox", "panda", "perch", "pig", "pika",
    "pony", "puma", "quail", "rabbit", "ram", "rat", "raven", "ray", "robin", "salmon", "seal", "shark",
    "sheep", "shrew", "skunk", "sloth", "snail", "snake", "squid", "stag", "stork", "swan", "swift", "tapir",
    "tern", "tick", "tiger", "toad", "trout", "viper", "vole", "wasp", "whale", "wolf", "wombat", "worm",
    "yak", "zebra",
)
