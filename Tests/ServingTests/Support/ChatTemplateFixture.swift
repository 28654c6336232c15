// The chat template of the tests: ChatML without a default system prompt.

import Tokenization

extension Vocabulary {
    static let chatTemplate: ChatTemplate = {
        let source = """
            {% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] \
            + '<|im_end|>' + '\\n' }}{% endfor %}\
            {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
            """
        do {
            return try ChatTemplate(source: source)
        } catch {
            preconditionFailure("the fixture is a valid template: \(error)")
        }
    }()
}
