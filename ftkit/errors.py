"""The one exception that a user is meant to see."""


class UserError(Exception):
    """What is wrong with the input, and what to type next.

    Args:
        problem: what was found and what was expected, in one or a few sentences.
        remedy: the next step, ideally a command or an option with its value.
        alone: whether only one of several processes can have met it, so that it has to tell it itself.

    The command line prints both in one panel, without a traceback, and exits with code 2.
    """

    def __init__(self, problem: str, remedy: str = "", *, alone: bool = False) -> None:
        super().__init__(problem if not remedy else f"{problem}\n{remedy}")
        self.problem = problem
        self.remedy = remedy
        self.alone = alone
