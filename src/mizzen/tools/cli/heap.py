"""The heap of a service's process: left alone while it is loaded, and then kept out of the collector's way.

Loading makes some ten thousand objects that live as long as the process. The collector would walk through them again and
again on the way (a tenth of a start), and later in each full collection, which is a pause of every request in flight.
"""

from __future__ import annotations

import gc


def hold() -> None:
    """Collect nothing while there is nothing but what stays."""
    gc.disable()


def settle() -> None:
    """Collect from now on, but never look again at what is there.

    Called once the service is built, and before anything is opened: a start may wait for hours for what it needs, and
    what fails meanwhile leaves garbage.
    """
    gc.freeze()
    gc.enable()
