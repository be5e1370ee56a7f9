//! Amazon Resource Names.

/// Whether a text is an ARN that names one resource
///
/// `arn:partition:service:region:account-id:resource` as AWS documents it ("Identify AWS resources
/// with ARNs"): a partition of AWS; a region or none; an account of 12 digits or none; a resource of
/// the characters that the patterns of AWS's own API references allow, and `$` (`$LATEST`). At most
/// 2048 bytes, as IAM takes. Wildcards belong to policies: they name more than one resource.
pub(crate) fn is_valid(text: &str) -> bool {
    let mut parts = [""; 6];
    for (place, part) in parts.iter_mut().zip(text.splitn(6, ':')) {
        *place = part;
    }
    let [scheme, partition, service, region, account, resource] = parts;
    text.len() <= MAX_ARN
        && scheme == "arn"
        && is_partition(partition)
        && is_word(service)
        && (region.is_empty() || is_region(region))
        && (account.is_empty() || is_account(account))
        && is_resource(resource)
}

const MAX_ARN: usize = 2048;

/// `aws`, or one of its siblings such as `aws-cn`, `aws-us-gov`, `aws-iso-b`
fn is_partition(text: &str) -> bool {
    text == "aws" || text.strip_prefix("aws-").is_some_and(is_words)
}

/// Lower-case letters, digits and hyphens, up to 63
fn is_word(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(good) && !text.starts_with('-')
}

/// Words of letters and a number, such as `us-east-1`, `us-gov-west-1`
fn is_region(text: &str) -> bool {
    let Some((words, number)) = text.rsplit_once('-') else {
        return false;
    };
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    (1..=2).contains(&number.len()) && digits && words.contains('-') && is_words(words)
}

/// Lower-case letters with single hyphens between
fn is_words(text: &str) -> bool {
    let mut before = b'-';
    for byte in text.bytes() {
        if !(byte.is_ascii_lowercase() || (byte == b'-' && before != b'-')) {
            return false;
        }
        before = byte;
    }
    before != b'-' && text.len() <= 32
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_resource(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=/,.@-:$".contains(&byte);
    !text.is_empty() && text.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_resource() {
        for text in [
            "arn:aws:s3:::my-bucket",
            "arn:aws:s3:::my-bucket/folder/file.txt",
            "arn:aws:ec2:us-east-1:123456789012:instance/i-012abcd34efghi56",
            "arn:aws:ecr:eu-central-1:123456789012:repository/team/image",
            "arn:aws:sns:us-east-1:123456789012:example-sns-topic-name",
            "arn:aws:iam::123456789012:user/johndoe@example.com",
            "arn:aws:lambda:ap-southeast-2:123456789012:function:f:$LATEST",
            "arn:aws-cn:ec2:cn-north-1:123456789012:vpc/vpc-0e9801d129EXAMPLE",
            "arn:aws-us-gov:eks:us-gov-west-1:123456789012:cluster/c",
            "arn:aws-iso-b:ec2:us-isob-east-1:123456789012:vpc/v",
            "arn:aws-eusc:ec2:eusc-de-east-1:123456789012:vpc/v",
            "arn:aws:elasticloadbalancing:us-west-2:123456789012:loadbalancer/app/lb/50dc6c495c0c9188",
            "arn:aws:route53:::hostedzone/Z148QEXAMPLE8V",
        ] {
            assert!(is_valid(text), "{text}");
        }
    }

    #[test]
    fn no_names() {
        let long = std::format!("arn:aws:s3:::{}", "a".repeat(MAX_ARN));
        for text in [
            "",
            "arn",
            "arn:",
            "arn:::::",
            "arn:aws:s3:::",
            "arn:aws:s3::my-bucket",
            "ARN:aws:s3:::b",
            "arn:AWS:s3:::b",
            "arn:amazon:s3:::b",
            "arn:aws-:s3:::b",
            "arn:awsx:s3:::b",
            "arn:aws:::: b",
            "arn:aws:S3:::b",
            "arn:aws:s 3:::b",
            "arn:aws:ec2:useast1:123456789012:vpc/v",
            "arn:aws:ec2:us-1:123456789012:vpc/v",
            "arn:aws:ec2:us-east-:123456789012:vpc/v",
            "arn:aws:ec2:us-east-123:123456789012:vpc/v",
            "arn:aws:ec2:*:123456789012:vpc/v",
            "arn:aws:ec2:us-east-1:12345678901:vpc/v",
            "arn:aws:ec2:us-east-1:1234567890123:vpc/v",
            "arn:aws:ec2:us-east-1:12345678901a:vpc/v",
            "arn:aws:ec2:us-east-1:١٢٣٤٥٦:vpc/v",
            "arn:aws:iam::aws:policy/AdministratorAccess",
            "arn:aws:s3:::my-bucket/*",
            "arn:aws:s3:::my-bucke?",
            "arn:aws:s3:::my bucket",
            "arn:aws:s3:::b\n",
            "arn:aws:s3:::b\"",
            "arn:aws:s3:::bücket",
            " arn:aws:s3:::b",
            &long,
        ] {
            assert!(!is_valid(text), "{text}");
        }
        assert!(is_valid(long.get(..MAX_ARN).unwrap_or_default()));
    }
}
