"""Kuramoto's oscillators compared with theory."""

from __future__ import annotations

import random
from math import atan, cos, exp, pi, sin, sqrt, tan

import numpy
import pytest

import cascade as cs
from cascade.observatory.agents.kuramoto import (
    Course,
    MeanField,
    lorentzian,
    oscillator,
    population,
    step,
    theoretical_order,
)
from cascade.runtime.clock import run_virtually


def drawn(count, width, seed):
    rng = random.Random(seed)
    return [2 * pi * rng.random() for _ in range(count)], lorentzian(count, width, rng)


def spread(count, width):
    """The quantiles of the distribution: as many oscillators, without the chance of a draw."""
    return [width * tan(pi * ((n + 0.5) / count - 0.5)) for n in range(count)]


@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
def test_single_agents_equal_a_population_bit_for_bit(use_vm):
    angles, frequencies = drawn(30, 0.5, seed=4)
    how = {"coupling": 1.7, "dt": 0.05, "steps": 60}

    async def main():
        field = MeanField(len(angles))
        agents = [
            oscillator(place, field, angle, frequency, **how)
            for place, (angle, frequency) in enumerate(zip(angles, frequencies, strict=True))
        ]
        return await cs.run_async([population(angles, frequencies, **how), agents], use_vm=use_vm)

    course, ends = run_virtually(main)
    assert course.angles == ends
    assert len(course.order) == 60


def test_a_step_is_that_of_the_equation():
    """Against numpy, with all pairs written out."""
    angles, frequencies = drawn(40, 0.5, seed=1)
    theta, w = numpy.array(angles), numpy.array(frequencies)

    def slope(theta):
        return w + 2.0 * numpy.sin(theta[None, :] - theta[:, None]).mean(axis=1)

    first = slope(theta)
    expected = theta + 0.025 * (first + slope(theta + 0.05 * first))
    moved, order = step(angles, frequencies, 2.0, 0.05)

    numpy.testing.assert_allclose(moved, expected, rtol=1e-12)
    assert order == pytest.approx(abs(numpy.exp(1j * theta).mean()))


def test_two_oscillators_lock_at_the_angle_of_the_theory():
    """dφ/dt = Δw - K sin φ, which stands where sin φ = Δw / K."""
    course = cs.run(
        population([0.0, 2.0], [0.0, 0.6], coupling=1.0, dt=0.05, steps=2000), use_vm=True
    )
    apart = course.angles[1] - course.angles[0]

    assert sin(apart) == pytest.approx(0.6)
    assert course.order[-1] == pytest.approx(cos(apart / 2))


def test_two_equal_oscillators_come_together_as_the_equation_says():
    """dφ/dt = -K sin φ, so tan(φ/2) shrinks by e^(-K t); Heun's error is of second order."""
    errors = []
    for steps in (50, 100):
        course = cs.run(
            population([0.0, 2.0], [0.0, 0.0], coupling=1.3, dt=2 / steps, steps=steps), use_vm=True
        )
        apart = course.angles[1] - course.angles[0]
        errors.append(abs(tan(apart / 2) - tan(1.0) * exp(-1.3 * 2)))

    assert errors[0] < 1e-3
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize(("coupling", "within"), [(1.5, 0.03), (2.0, 0.02), (4.0, 0.01)])
def test_order_beyond_the_transition(coupling, within):
    """R = sqrt(1 - K_c / K), within the error of 400 oscillators spread evenly: O(1 / n)."""
    angles = drawn(400, 0.5, seed=2)[0]
    course = cs.run(
        population(angles, spread(400, 0.5), coupling=coupling, dt=0.05, steps=800), use_vm=True
    )

    assert course.settled() == pytest.approx(theoretical_order(coupling, 0.5), abs=within)


@pytest.mark.parametrize("coupling", [0.0, 0.5])
def test_no_order_before_the_transition(coupling):
    """R is of the order of 1 / sqrt(n), for n drawn at random."""
    count = 400
    angles, frequencies = drawn(count, 0.5, seed=3)
    course = cs.run(
        population(angles, frequencies, coupling=coupling, dt=0.05, steps=800), use_vm=True
    )

    assert 0.3 / sqrt(count) < course.settled() < 3 / sqrt(count)


def test_order_grows_as_ott_and_antonsen_say():
    """dR/dt = R (K/2 (1 - R²) - γ) for Lorentzian frequencies (Chaos 18, 2008), from any R.

    Solved for u = R²: u relaxes to 1 - 2γ/K logistically.
    """
    count, width, coupling, dt, steps = 2000, 0.5, 3.0, 0.05, 60
    start = 0.3
    rng = random.Random(7)
    # Angles from a Poisson kernel of mean R, which is the family that the equation is about.
    share = (1 - start) / (1 + start)
    angles = [2 * atan(share * tan(pi * (rng.random() - 0.5))) for _ in range(count)]
    frequencies = spread(count, width)
    rng.shuffle(frequencies)
    course = cs.run(
        population(angles, frequencies, coupling=coupling, dt=dt, steps=steps), use_vm=True
    )

    rate, end = coupling - 2 * width, 1 - 2 * width / coupling
    u = course.order[0] ** 2
    for number, order in enumerate(course.order):
        grown = u * exp(rate * dt * number)
        assert order == pytest.approx(sqrt(end * grown / (end - u + grown)), abs=3 / sqrt(count))


def test_lorentzian_frequencies_have_their_width():
    """Half of them are within the width; nothing else is sure of this distribution."""
    frequencies = lorentzian(20_000, 0.5, random.Random(1))

    assert sum(abs(f) < 0.5 for f in frequencies) / 20_000 == pytest.approx(0.5, abs=0.015)
    assert sum(f > 0 for f in frequencies) / 20_000 == pytest.approx(0.5, abs=0.015)


def test_a_course_settles_in_its_last_part():
    assert Course([], [0.0, 0.0, 0.5, 0.7]).settled() == pytest.approx(0.6)
    assert Course([], [0.0, 0.0, 0.5, 0.7]).settled(0.25) == 0.7
