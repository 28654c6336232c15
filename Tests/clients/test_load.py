"""The short form of slow/test_load.py: what must hold on a machine that does other things too."""

import asyncio

import mixture

COUNT = 500


def test_nothing_is_left_of_mixed_requests(server):
    """Good and bad requests of every kind, a fifth of them from clients that leave in the middle."""

    async def run():
        await mixture.play(server, 100, seed=3)
        await mixture.until_idle(server)
        before = mixture.footprint(server)
        mixture.check(await mixture.play(server, COUNT, seed=4), COUNT)
        await mixture.until_idle(server)
        assert mixture.footprint(server)["descriptors"] <= before["descriptors"]
        await mixture.fill_every_row(server)

    asyncio.run(run())
    assert mixture.complaints(server) == []


def test_streams_go_on_beside_a_long_prompt(server):
    """Their pauses are steps of the usual size, not the time that the prompt takes."""
    result = asyncio.run(mixture.interrupt(server, prompt=1500, streams=8, output=250))
    print(result)
    assert result.worst < result.prompt / 4
