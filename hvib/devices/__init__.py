"""Several devices: each sees a part or a view of x, and the network infers from all.

C = D + Σ_j β_j R_j, with the rate R_j of what device j sends. A system of several devices is a
`hvib.System` whose device is `Devices`; one network serves every (β_1, …, β_J)::

    system = hvib.System(Devices([top, bottom], halves), network, channel, features=64)
    hyper = joined(system, betas=(1e-6, 1.0))
    hvib.fit(hyper, data, epochs=20, method="hyper-vib-joint")
    with hvib.at([(1e-4, 1e-2)]):
        ...
"""

from hvib.devices.composite import Devices
from hvib.devices.gated import joined
from hvib.devices.lost import Silenced
from hvib.devices.views import channels_of, each_of, halves

__all__ = ["Devices", "Silenced", "channels_of", "each_of", "halves", "joined"]
