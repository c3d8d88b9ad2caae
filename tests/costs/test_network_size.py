"""Sizes read from headers equal those of the networks themselves."""

from pathlib import Path

import pytest

from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.costs.network_size import network_size
from coreml_sd.mobile import mobile_form
from coreml_sd.mobile.layer_weights import layer_weights
from coreml_sd.mobile.measure import network_costs

NAMES = ("text_encoder", "unet", "vae_decoder", "vae_encoder")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("model", ["demo", "sd1", "sd2"])
def test_sizes_are_those_of_the_network(
    model: str, name: str, request: pytest.FixtureRequest
) -> None:
    folder = "demo" if model == "demo" else str(request.getfixturevalue(f"{model}_folder"))
    plan = plan_conversion(ConversionConfig(model=folder))
    component = plan.model.component(name)
    mobile = mobile_form(name, component.load())
    size = network_size(plan.model.folder, component)
    assert size.macs == network_costs(mobile, component.inputs).macs
    assert size.parameters == sum(p.numel() for p in mobile.parameters())
    assert sorted(size.shapes[layer][0] for layer in size.layers) == sorted(
        weight.shape[0] for weight in layer_weights(mobile).values()
    )


def test_sizes_go_with_the_size_of_the_picture(sd1_folder: Path) -> None:
    def macs(size: str) -> int:
        plan = plan_conversion(ConversionConfig(model=str(sd1_folder), size=size))
        return network_size(plan.model.folder, plan.model.component("vae_decoder")).macs

    assert macs("32x32") > 4 * macs("16x16")  # attention grows with the square of the pixels
