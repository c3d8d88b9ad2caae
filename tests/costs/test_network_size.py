"""Sizes read from headers equal those of the networks themselves."""

import pytest

from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.costs.network_size import network_size
from coreml_sd.mobile import mobile_form
from coreml_sd.mobile.layer_weights import layer_weights

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
    assert size.parameters == sum(p.numel() for p in mobile.parameters())
    assert sorted(size.shapes[layer][0] for layer in size.layers) == sorted(
        weight.shape[0] for weight in layer_weights(mobile).values()
    )
