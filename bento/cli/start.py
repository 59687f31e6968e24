"""Where the programs begin. Until they can say so themselves, Ctrl-C ends them without a word, as other programs.

What they import takes a tenth of a second, and on a slow disk some: nothing has begun by then.
"""

import signal


def admin() -> None:
    """`bento`."""
    before = _silence()
    from bento.cli.main import main

    signal.signal(signal.SIGINT, before)
    main()


def agent() -> None:
    """`bento-agent`."""
    before = _silence()
    from bento.cli.agent import main

    signal.signal(signal.SIGINT, before)
    main()


def _silence() -> "signal._HANDLER":
    """What Ctrl-C did before; where it is ignored, as with nohup, that stays."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return before
