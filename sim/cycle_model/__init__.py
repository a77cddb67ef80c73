"""The cycle model: what a step costs, from its program, without simulating the RTL."""

from sim.cycle_model.estimate import Estimate, Need, estimate, most_rows
from sim.cycle_model.machine import Machine
from sim.cycle_model.prediction import Prediction, predict, predict_step
from sim.cycle_model.projection import MACHINES
from sim.cycle_model.proxy import Area, area_of

__all__ = [
    "MACHINES",
    "Area",
    "Estimate",
    "Machine",
    "Need",
    "Prediction",
    "area_of",
    "estimate",
    "most_rows",
    "predict",
    "predict_step",
]
